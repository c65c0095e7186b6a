"""The notebooks run from top to bottom, on data that they make themselves.

Their cells are plain Python, so they are run here without a kernel: no process, port or further package is needed.
"""

import json
import re
import runpy
import shlex
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import xarray as xr

import probe
from probe.command.main import main
from probe.reports.channels.page import findings
from probe.testing import noise_images, padded_net

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


def test_shards_with_dask_give_what_one_process_does():
    """Here in threads of this process; `examples/shards_with_dask.py` starts processes."""
    example = runpy.run_path(str(NOTEBOOKS[0].with_name("shards_with_dask.py")))
    net, images = padded_net("zeros"), noise_images(100)
    xr.testing.assert_allclose(
        example["measure"](3, scheduler="synchronous"), probe.layerwise(net, images, progress=False), atol=1e-5
    )


def test_the_lines_for_slurm_are_commands_of_probe():
    """Each is parsed as the shell would, with a task's number, and by the commands, of which none runs."""
    text = NOTEBOOKS[0].with_name("slurm-array.sh").read_text(encoding="utf-8")
    joined = text.replace("\\\n", " ").replace("$SLURM_ARRAY_TASK_ID", "3").replace("part*.h5", "part3.h5")
    found = re.findall(r"probe (collect|merge|layerwise) ([^&\n]*)", joined.replace('"', ""))
    assert [name for name, _ in found] == ["merge", "layerwise", "collect"]
    for name, words in found:
        command = main.commands[name]
        arguments = [word for word in shlex.split(words.split("#")[0]) if word]
        arguments = ["." if word == "images" else word for word in arguments]
        assert command.make_context(name, arguments).params["output"]
