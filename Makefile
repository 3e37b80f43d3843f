# Every target begins with the same set-up: a virtual environment that is made when it is missing or out of date.
PYTHON    ?= python3
LAB_FLAGS ?=
V         := .venv
PY        := $(V)/bin/python
PLAIN     := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41

.PHONY: help setup lab tour test test-plain quick docs bench data outputs export clean new-user
help:           ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' Makefile

$(V)/.ready: pyproject.toml constraints.txt
	@echo "== setting up $(V) (about two minutes the first time)"
	test -x $(PY) || $(PYTHON) -m venv $(V)
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[lab,dev,docs]'
	$(PY) -m pip install -q --disable-pip-version-check --no-deps -c constraints.txt torchattacks
	@touch $@
setup: $(V)/.ready

lab: setup      ## open JupyterLab on the index, in a copy of the notebooks that is yours to change
	@echo "== JupyterLab on a copy of the notebooks in spat_nb-notebooks/ (stop it with Ctrl-C)"
	$(PY) -m spat_nb lab $(LAB_FLAGS)
tour: setup     ## one minute: train, attack, compare; writes tour.html
	$(PY) -m spat_nb tour
test: setup     ## lint, types, spelling, the form of lessons and methods, notebooks and tests
	@echo "== lint"
	$(V)/bin/ruff check
	$(V)/bin/ruff format --check -q
	@echo "== types"
	$(V)/bin/mypy
	@echo "== spelling"
	$(V)/bin/codespell *.md *.cff Makefile settings.ini pyproject.toml nbs docs spat_nb tests tools bench exercises
	@echo "== lessons: their form, and the order in which names are taught"
	$(PY) tools/lessons.py
	$(PY) tools/order.py
	$(PY) tools/paths.py
	@echo "== methods: at most 40 lines each"
	$(PY) tools/method_lines.py
	@echo "== notebooks, each from top to bottom"
	OMP_NUM_THREADS=1 TQDM_DISABLE=1 $(V)/bin/nbdev-test --n-workers 2 --timing
	@echo "== tests"
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=15
test-plain: setup ## the notebooks once more, on the plainest processor: rounding there trains other networks
	@echo "== notebooks, on the plainest processor"
	$(PLAIN) $(PY) -c "import torch; has = torch.backends.cpu.get_cpu_capability(); assert has == 'DEFAULT', has"
	$(PLAIN) OMP_NUM_THREADS=1 TQDM_DISABLE=1 $(V)/bin/nbdev-test --n-workers 2 --timing
quick: setup    ## the tests that take seconds
	$(PY) -m pytest -m 'not slow'
docs: setup     ## the site, into _docs/ (ARGS='--dev RELEASE': a development version)
	$(PY) tools/docs.py $(ARGS)
bench: setup    ## speed of the engine against the bare loop and other libraries
	$(PY) bench/bench.py
data: setup     ## download MNIST and CIFAR-10 into the data folder of settings.ini
	$(PY) -m spat_nb data mnist cifar10
export: setup   ## notebooks to spat_nb/
	$(V)/bin/nbdev-export
outputs: setup  ## run all notebooks and store their outputs
	$(PY) tools/outputs.py
new-user: setup ## what a new user does, from the wheel alone in clean folders; the seconds of each step (ARGS=--pip)
	$(PY) tools/new_user.py $(ARGS)
clean:          ## what was built; the environment and the data stay
	rm -rf _docs _proc build dist *.egg-info .pytest_cache .hypothesis .ruff_cache tour.html
