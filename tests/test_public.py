"The public names: one table, nothing imported before it is asked for"

import inspect
import subprocess
import sys

import pytest

import spat_nb
from spat_nb import public

ASKED = """Linf L2 L1 fgsm pgd mim apgd fab deepfool cw square autoattack within evaluate
Record trust Learner get_data zoo standard pgd_at trades alp mart spat temperature_pgd Hypersphere
margin_ce simplex repulsive Prototypes Sparta""".split()
# Names of functions that are names of modules too: `import spat_nb.trust` lays the module over them


def fresh(code):
    "What `code` prints in a new process"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_what_was_asked_for_is_there():
    assert set(ASKED) <= set(public.NAMES)
    assert 100 <= len(public.NAMES) <= 200


def test_the_table_has_no_doubles_and_its_marks_are_known():
    rows = [n for homes in public.FLOORS.values() for row in homes.values() for n in row.split()]
    assert spat_nb.__all__ == public.NAMES == [n.rstrip("()!.") for n in rows]
    assert len(set(public.HOME)) == len(rows) + sum(
        len(v.split()) for v in public.BORROWED.values()
    )


@pytest.mark.parametrize("name", public.NAMES)
def test_every_name_is_there_and_says_what_it_is(name):
    value = public.resolve(name)
    assert getattr(value, "__doc__", None)
    if public.KIND[name] == "module":
        assert inspect.ismodule(value) and value.__name__.rpartition(".")[2] == name
    else:
        assert callable(value) and not inspect.ismodule(value)
        assert getattr(value, "__name__", name) == name
    assert getattr(spat_nb, name) is value


@pytest.mark.parametrize("name", public.NAMES)
def test_the_table_names_the_home_of_each(name):
    "A name stands where it is defined, not where it was passed on"
    home = getattr(public.resolve(name), "__module__", None)
    if public.KIND[name] != "module" and hasattr(public.resolve(name), "__qualname__"):
        assert home == public.HOME[name]


def test_import_brings_nothing_heavy():
    code = "import sys; old = {*sys.modules}; import spat_nb; print(*sorted({*sys.modules} - old))"
    brought = fresh(code).split()
    assert {m for m in brought if m.startswith("spat_nb")} == {"spat_nb", "spat_nb.public"}
    assert {m.split(".")[0] for m in brought} <= {"spat_nb", *sys.stdlib_module_names}


def test_a_name_brings_its_module_only():
    code = "import sys; from spat_nb import Linf; print('spat_nb.attacks.balls' in sys.modules, *sys.modules)"  # noqa: E501
    there, *modules = fresh(code).split()
    assert there == "True" and "torch" in modules
    assert not {
        "spat_nb.attacks.attack",
        "spat_nb.measure.evaluate",
        "spat_nb.training.learner",
        "pandas",
    } & {*modules}


def test_star():
    code = "from spat_nb import *; print(pgd.__name__, PreActResNet18.__name__, Sparta.__name__)"
    assert fresh(code) == "pgd PreActResNet18 Sparta"


def test_a_room_may_be_imported_beside_the_names():
    code = "import spat_nb.measure.trust as t, spat_nb; print(t.trust is spat_nb.trust)"
    assert fresh(code) == "True"


@pytest.mark.parametrize("name,meant", [("pgdd", "pgd"), ("Linff", "Linf"), ("Lerner", "Learner")])
def test_did_you_mean(name, meant):
    with pytest.raises(AttributeError, match=f"{name!r}; did you mean {meant!r}"):
        getattr(spat_nb, name)
    with pytest.raises(AttributeError, match=f"{name!r}; did you mean {meant!r}"):
        public.resolve(name)


def test_a_name_like_no_other():
    with pytest.raises(AttributeError, match="no attribute 'qqqqq'$"):
        getattr(spat_nb, "qqqq" + "q")
    assert not hasattr(spat_nb, "__wrapped__")
    assert not hasattr(spat_nb, "ReLU")  # borrowed for specs, but PyTorch's


def test_dir_lists_the_names():
    assert set(public.NAMES) <= set(dir(spat_nb)) and "__version__" in dir(spat_nb)
