"""The notebooks run from top to bottom, are kept with small, clean outputs, and the other examples do what they say.

Their cells are plain Python, so they are run here without a kernel, with fewer images and steps than for a reader.
"""

import base64
import json
import re
import runpy
import shlex
from pathlib import Path

import pytest
import xarray as xr

import probe
from probe.command.main import main
from probe.errors import ProbeWarning
from probe.testing import noise_images, padded_net

pytestmark = pytest.mark.usefixtures("one_thread")

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))

# Fewer images, steps and draws than a reader's run every cell as well.
FEWER = {
    "n_steps, n_images = 200, 450": "n_steps, n_images = 10, 60",
    "n_steps, n_images, n_draws = 120, 240, 20": "n_steps, n_images, n_draws = 10, 60, 2",
    "n_images = 40": "n_images = 20",
    'int(os.environ.get("PROBE_SEEDS", 3)), 150, 300': "2, 5, 60",
    "n_clips = 100": "n_clips = 40",
}


def cells_of(path, kind="code"):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == kind]


@pytest.fixture(scope="module")
def run():
    return runpy.run_path(str(EXAMPLES / "run.py"))["run"]


@pytest.mark.filterwarnings("ignore::probe.ProbeWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs_and_nothing_is_left_behind(path, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("PROBE_IMAGES", "PROBE_WEIGHTS", "PROBE_SEEDS"):
        monkeypatch.delenv(name, raising=False)
    done = [cell for cell in run(path, FEWER)["notebook"]["cells"] if cell["cell_type"] == "code"]
    assert list(tmp_path.iterdir()) == []
    # What a cell showed when the outputs were kept, it shows still.
    kept = cells_of(path)
    assert [shapes(cell) for cell in done] == [shapes(cell) for cell in kept]


def shapes(cell):
    """Return what is shown of a cell: kinds of outputs; warnings depend on the number of images."""
    return [sorted(output.get("data", {"text": ""})) for output in cell["outputs"] if output.get("name") != "stderr"]


@pytest.mark.parametrize("many", FEWER)
def test_what_is_made_less_is_in_a_notebook(many):
    assert any(many in "".join(cell["source"]) for path in NOTEBOOKS for cell in cells_of(path))


def test_there_are_seven_and_the_readme_names_each():
    assert [path.name[:3] for path in NOTEBOOKS] == [f"0{number}-" for number in range(1, 8)]
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in NOTEBOOKS if path.name not in readme] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestKeptOutputs:
    def test_figures_are_small_and_each_cell_was_run_in_order(self, path):
        text = path.read_text(encoding="utf-8")
        pictures = re.findall(r'base64,([\w+/=]+)|"image/png": "([\w+/=]+)"', text)
        assert 0 < sum(len(base64.b64decode("".join(each))) for each in pictures) <= 200_000
        code = cells_of(path)
        assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
        assert cells_of(path, "markdown") and json.loads(text)["cells"][0]["cell_type"] == "markdown"

    def test_nothing_tells_of_the_machine_or_of_errors(self, path):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        assert notebook["metadata"] == {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
        assert all(cell["metadata"] == {} for cell in notebook["cells"])
        outputs = json.dumps([cell["outputs"] for cell in cells_of(path)])
        assert not re.search(r"[^\w.](/(home|root|tmp|usr|work|opt)/|[A-Z]:\\\\)|it/s\]|Traceback|Not shown", outputs)

    def test_links_lead_to_files(self, path):
        text = "".join("".join(cell["source"]) for cell in cells_of(path, "markdown"))
        links = re.findall(r"\]\(([^)#\s]+)\)", text) + re.findall(r"`(\d\d-[\w-]+\.ipynb)`", text)
        assert [link for link in links if not (EXAMPLES / link).exists()] == []


def test_a_notebook_is_run_and_written_with_its_outputs(run, tmp_path):
    code = ["import warnings", "print('said')\n1 + 1", "2;", "raise ZeroDivisionError"]
    cells = [{"cell_type": "code", "source": [text], "metadata": {}} for text in code]
    path = tmp_path / "x.ipynb"
    path.write_text(json.dumps({"cells": cells[:3]}))
    first, second, third = run(path)["notebook"]["cells"]
    assert [output.get("text", output.get("data")) for output in second["outputs"]] == [
        ["said\n"], {"text/plain": ["2"]},
    ]  # fmt: skip
    assert first["outputs"] == third["outputs"] == [] and third["execution_count"] == 3
    path.write_text(json.dumps({"cells": cells}))
    with pytest.raises(ZeroDivisionError):
        run(path)


def test_warnings_of_probe_are_kept_without_their_place(run, tmp_path):
    path = tmp_path / "x.ipynb"
    text = "import warnings, probe\nwarnings.warn('few images', probe.ProbeWarning)\nwarnings.warn('other')"
    path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": [text], "metadata": {}}]}))
    (output,) = run(path)["notebook"]["cells"][0]["outputs"]
    assert output["name"] == "stderr" and output["text"] == ["ProbeWarning: few images\n"]
    assert issubclass(ProbeWarning, UserWarning)


def test_shards_with_dask_give_what_one_process_does():
    """Here in threads of this process; `examples/shards_with_dask.py` starts processes."""
    example = runpy.run_path(str(EXAMPLES / "shards_with_dask.py"))
    net, images = padded_net("zeros"), noise_images(100)
    xr.testing.assert_allclose(
        example["measure"](3, scheduler="synchronous"), probe.layerwise(net, images, progress=False), atol=1e-5
    )


def test_the_lines_for_slurm_are_commands_of_probe():
    """Each is parsed as the shell would, with a task's number, and by the commands, of which none runs."""
    text = (EXAMPLES / "slurm-array.sh").read_text(encoding="utf-8")
    joined = text.replace("\\\n", " ").replace("$SLURM_ARRAY_TASK_ID", "3").replace("part*.h5", "part3.h5")
    found = re.findall(r"probe (collect|merge|layerwise) ([^&\n]*)", joined.replace('"', ""))
    assert [name for name, _ in found] == ["merge", "layerwise", "collect"]
    for name, words in found:
        command = main.commands[name]
        arguments = [word for word in shlex.split(words.split("#")[0]) if word]
        arguments = ["." if word == "images" else word for word in arguments]
        assert command.make_context(name, arguments).params["output"]
