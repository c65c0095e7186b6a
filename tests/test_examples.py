"""The notebooks run from top to bottom, on data that they make themselves.

Their cells are plain Python, so they are run here without a kernel: no process, port or further package is needed.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from probe.reports.channels.page import findings

pytestmark = pytest.mark.usefixtures("one_thread")

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))

# Fewer images and steps than a reader's run every cell as well.
FEWER = {
    "n_images = 1000": "n_images = 120",
    "steps=200": "steps=50",
    "make_streets(100)": "make_streets(40)",
    "make_streets(60)": "make_streets(24)",
}


def cells_of(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def code_of(cell):
    return "".join(cell["source"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(path, tmp_path, monkeypatch):
    # In a folder of its own the trained models are out of sight, and nothing is left behind.
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    try:
        for number, cell in enumerate(cells_of(path)):
            if cell["cell_type"] == "code":
                code = code_of(cell)
                for many, few in FEWER.items():
                    code = code.replace(many, few)
                exec(compile(code, f"{path.name}, cell {number}", "exec"), names)
    finally:
        plt.close("all")
    assert list(tmp_path.iterdir()) == []
    assert any("ranks first" in sentence for sentence in findings(names["result"]))


@pytest.mark.parametrize("many", FEWER)
def test_what_is_made_less_is_in_a_notebook(many):
    assert any(many in code_of(cell) for path in NOTEBOOKS for cell in cells_of(path))


def test_there_is_a_notebook_for_classes_and_one_for_pixels():
    assert [path.stem for path in NOTEBOOKS] == ["position-channels-classification", "position-channels-segmentation"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path):
    code = [cell for cell in cells_of(path) if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert cells_of(path)[0]["cell_type"] == "markdown"
