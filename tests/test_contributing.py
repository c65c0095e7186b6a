"""What contributors are told is true: targets, files and names are there, and hooks run what `make lint` runs."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
ROWS = re.findall(r"^\| (`.*`) \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "README.md", ".pre-commit-config.yaml", ".ci/run"])
def test_targets_of_make_are_there(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`|entry: )make ([a-z-]+)", text, re.MULTILINE))
    assert named and named <= TARGETS


def test_the_hook_of_commits_is_make_lint():
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"entry: (.*)", text) == ["make lint"]


def test_files_named_to_contributors_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = {path for path in re.findall(r"`([\w.-]+(?:/[\w.-]*)+)`", text) if "NAME" not in path}
    assert len(named) > 10
    assert {path for path in named if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("row", ROWS)
def test_tables_that_a_new_kind_enters_are_there(row):
    """A table is named behind its file."""
    words = re.findall(r"`([^`]+)`", row)
    for file, table in pairwise(words):
        if table.isidentifier():
            assert re.search(rf"^(def )?{table}\b", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_the_reference_and_the_pages_of_errors_have_rows():
    assert {"`docs/reference.py` `GROUPS`", "`probe/errors.py`, `docs/errors/NAME.md`"} <= set(ROWS)


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[1] == version
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
