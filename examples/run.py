"""Run notebooks from top to bottom and keep their outputs: ``python examples/run.py examples/*.ipynb``.

Cells are plain Python, so they are run without a kernel: what is kept has no progress bars, times or names of this
machine, and is the same after every run but for digests and random draws of the libraries.
"""

import ast
import base64
import contextlib
import io
import json
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from PIL import Image

mpl.use("agg")

_DPI = 90
_COLOURS = 128


def run(path: Path, replaced: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a notebook with the outputs of its cells, and the names that it has made as ``names``.

    Parameters
    ----------
    path
        Of the notebook, which stays as it is.
    replaced
        Text in the code of cells -> what is run in its place.
    """
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    try:
        for number, cell in enumerate(code, start=1):
            text = "".join(cell["source"])
            for old, new in (replaced or {}).items():
                text = text.replace(old, new)
            cell["outputs"] = _run_cell(text, f"{path.name}, cell {number}", number, names)
            cell["execution_count"] = number
    finally:
        plt.close("all")
    return {"notebook": notebook, "names": names}


def _run_cell(text: str, where: str, number: int, names: dict[str, Any]) -> list[dict[str, Any]]:
    printed = io.StringIO()
    tree = ast.parse(text)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(printed), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        exec(compile(tree, where, "exec"), names)
        value = None if last is None else eval(compile(ast.Expression(last.value), where, "eval"), names)
    # Warnings of probe are part of what a reader should see; where in this machine they came from is not.
    told = [f"{one.category.__name__}: {one.message}\n" for one in caught if _is_of_probe(one.category)]
    outputs: list[dict[str, Any]] = [
        {"name": name, "output_type": "stream", "text": content.splitlines(keepends=True)}
        for name, content in (("stdout", printed.getvalue()), ("stderr", "".join(told)))
        if content
    ]
    if value is not None and not text.rstrip().endswith(";"):
        shown = {"text/plain": repr(value).splitlines(keepends=True)}
        if hasattr(value, "_repr_html_"):
            shown["text/html"] = value._repr_html_().splitlines(keepends=True)
        outputs.append({"data": shown, "execution_count": number, "metadata": {}, "output_type": "execute_result"})
    for figure in map(plt.figure, plt.get_fignums()):
        drawn, content = io.BytesIO(), io.BytesIO()
        figure.savefig(drawn, format="png", dpi=_DPI)
        Image.open(drawn).convert("RGB").quantize(_COLOURS).save(content, format="png", optimize=True)
        picture = {"image/png": base64.b64encode(content.getvalue()).decode("ascii"), "text/plain": ["<Figure>"]}
        outputs.append({"data": picture, "metadata": {}, "output_type": "display_data"})
    plt.close("all")
    return outputs


def _is_of_probe(category: type[Warning]) -> bool:
    return category.__module__.startswith("probe.")


def main(paths: list[str]) -> None:
    """Run each notebook and write it back with its outputs."""
    for path in map(Path, paths):
        started = time.process_time()
        notebook = run(path)["notebook"]
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{path.name}: {time.process_time() - started:.0f} s of CPU", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
