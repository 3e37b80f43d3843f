"""What people expect of a repository: hooks, a matrix, templates, notes of a release, and a project
file of the site that holds nothing unknown
"""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")
jsonschema = pytest.importorskip("jsonschema")

TOP = Path(__file__).resolve().parents[1]


def load(path):
    return yaml.safe_load((TOP / path).read_text(encoding="utf-8"))


def pin(package):
    text = (TOP / "constraints.txt").read_text(encoding="utf-8")
    return re.search(rf"^{package}==(.*)$", text, re.M | re.I)[1]


def test_hooks_have_the_pinned_versions():
    revisions = {
        Path(r["repo"]).name: r.get("rev") for r in load(".pre-commit-config.yaml")["repos"]
    }
    assert revisions["ruff-pre-commit"] == f"v{pin('ruff')}"
    assert revisions["codespell"] == f"v{pin('codespell')}"


def test_binder_installs_the_pinned_packages():
    "Each lesson has a link to Binder, which reads `.binder`; paths are those of pip"
    import tomllib

    lines = (TOP / ".binder/requirements.txt").read_text(encoding="utf-8").splitlines()
    given = [line.split(" ", 1) for line in lines if line.startswith("-")]
    flags = dict(given)
    # -c is read from where the file lies, -e from where pip was called: the top
    assert (TOP / ".binder" / flags["-c"]).resolve() == TOP / "constraints.txt"
    extras = re.fullmatch(r"\.\[(\w+)\]", flags["-e"])[1]
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extras in project["optional-dependencies"] and len(given) == 3
    version = (TOP / ".binder/runtime.txt").read_text(encoding="utf-8").strip()
    assert version.removeprefix("python-") in project["requires-python"]


def test_the_matrix_reaches_from_the_lowest_to_the_newest():
    import tomllib

    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lowest = next(d for d in project["dependencies"] if d.startswith("torch>"))
    jobs = load(".github/workflows/matrix.yml")["jobs"]
    matrix = jobs["quick"]["strategy"]["matrix"]
    assert {o.split("-")[0] for o in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert matrix["python"][0] == project["requires-python"].removeprefix(">=")
    low = {row["torch"] for row in matrix["include"]}
    assert low == {f"torch=={lowest.removeprefix('torch>=')}.*"} and matrix["torch"] == ["torch"]
    assert jobs["from-the-files"]["strategy"]["matrix"]["kind"] == ["wheel", "sdist"]


@pytest.mark.parametrize("path", sorted(TOP.glob(".github/**/*.yml")), ids=lambda p: p.name)
def test_files_for_github_are_read(path):
    found = load(path)
    if path.parent.name == "workflows":
        assert found["jobs"] and all("steps" in job for job in found["jobs"].values())
    elif path.name != "config.yml":
        assert found["name"] and found["description"]
        ids = [part["id"] for part in found["body"]]
        assert len(ids) == len(set(ids))


def test_texts_for_people_are_there():
    for name in ("SECURITY.md", "CODE_OF_CONDUCT.md", ".github/pull_request_template.md"):
        assert len((TOP / name).read_text(encoding="utf-8")) > 300
    # what the first one promises is tested elsewhere; that it names a private way is not
    assert "/security/advisories/new" in (TOP / "SECURITY.md").read_text(encoding="utf-8")


def test_notes_of_a_release_come_from_the_changelog():
    def notes(version):
        return subprocess.run(
            [sys.executable, TOP / "tools/release_notes.py", version],
            capture_output=True,
            text=True,
        )

    there = notes("Unreleased")
    lines = there.stdout.splitlines()
    assert there.returncode == 0 and len(lines) > 5 and all(x.startswith("- ") for x in lines)
    gone = notes("99.0")
    assert gone.returncode == 1 and "99.0" in gone.stderr and not gone.stdout


SLIPS = [
    (("website", "colour"), "x"),
    (("website", "sidebar", "contents"), ["12_attack"]),
    (("format", "html", "toc-depth"), 9),
    (("format", "html", "html-math-method"), "mathml2"),
    (("project", "type"), "book"),
]


def test_the_sites_project_file_fits_its_schema():
    schema = json.loads((TOP / "docs/quarto.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    good = load("_quarto.yml")
    jsonschema.validate(good, schema)
    for keys, value in SLIPS:
        bad = copy.deepcopy(good)
        inner = bad
        for k in keys[:-1]:
            inner = inner[k]
        inner[keys[-1]] = value
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)
