"""The pages of the site: every block of Python runs, prints what stands below it, and every command exists."""

import ast
import contextlib
import doctest
import io
import re
import runpy
import shlex
import subprocess
import sys
from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import click
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torchvision
from PIL import Image
from torch import nn

import probe
from probe.command.main import main
from probe.reading import ranks

pytestmark = pytest.mark.usefixtures("one_thread")

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
SET_UP = DOCS / "how" / "index.md"

# A fence, and what a comment before it says that it needs.
BLOCK = re.compile(r"(?:^<!-- needs: (?P<needs>\w+) -->\n+)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S)
LOOSE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks_of(path):
    """Yield the blocks of Python of a page, each with what it needs, where it is, and the output that follows it."""
    text = path.read_text(encoding="utf-8")
    found = list(BLOCK.finditer(text))
    for block, following in zip(found, [*found[1:], None], strict=False):
        if block["language"] == "python":
            shown = following is not None and following["language"] == "text"
            shown = shown and not text[block.end() : following.start()].strip()
            line = text.count("\n", 0, block.start("code"))
            yield block["needs"], line, block["code"], following["code"] if shown else None


def run(code, line, names, path):
    """Run a block; return what it prints, its last value as in a notebook, or its error."""
    tree = ast.parse("\n" * line + code, str(path))
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, str(path), "exec"), names)
        value = last and eval(compile(last, str(path), "eval"), names)
    return printed.getvalue() + ("" if value is None else f"{value!r}\n")


def run_page(path, names):
    for needs, line, code, expected in blocks_of(path):
        if needs and find_spec(needs) is None:
            continue
        fails = expected is not None and re.match(r"(\w+Error|ProbeWarning): ", expected)
        if fails:
            with pytest.raises(getattr(probe.errors, fails[1])) as caught:
                run(code, line, names, path)
            found = f"{type(caught.value).__name__}: {caught.value}\n"
        else:
            found = run(code, line, names, path)
        if expected is not None:
            same = doctest.OutputChecker().check_output(expected, found, LOOSE)
            assert same, f"{path.name}, line {line + 1}: expected\n{expected}\nfound\n{found}"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of small photographs, and one of videos."""
    draw, folder = np.random.default_rng(0), tmp_path_factory.mktemp("pictures")
    photos = [folder / "photos" / f"{number:02}.png" for number in range(70)]
    for number in range(40):
        video = folder / "videos" / ("waving", "walking")[number % 2] / f"{number:02}"
        photos += [video / f"image_{frame:05}.png" for frame in range(1, 5)]
    for path in photos:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return folder


@pytest.fixture
def folders(pictures, tmp_path, monkeypatch):
    """A new folder to work in, with the two that the pages name; weights that are asked for are random ones."""
    for name in ("photos", "videos"):
        (tmp_path / name).symlink_to(pictures / name)
    monkeypatch.chdir(tmp_path)
    random = torchvision.models.resnet18().state_dict
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: random())


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_every_block_runs_and_prints_what_stands_below_it(path):
    names = {"__name__": "__main__"}
    try:
        if path.parent.name in ("how", "errors") and path != SET_UP:
            run_page(SET_UP, names)
        run_page(path, names)
    finally:
        plt.close("all")


@pytest.fixture
def small_models(monkeypatch):
    """What the README calls of torchvision, small, with random weights."""
    models, transforms = torchvision.models, torchvision.transforms
    shown = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    weights = SimpleNamespace(DEFAULT=SimpleNamespace(transforms=lambda: shown))
    layers = {"conv1": nn.Conv2d(3, 4, 3, stride=8, padding=1), "layer4": nn.Conv2d(4, 4, 3, padding=1)}
    layers |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(4, 2)}
    resnet = nn.Sequential(OrderedDict(layers)).eval()
    vit = models.VisionTransformer(32, 8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32).eval()
    video_net = nn.Sequential(OrderedDict(layer1=nn.Conv3d(3, 4, 3, stride=(2, 16, 16), padding=1)))
    monkeypatch.setattr(models, "ResNet18_Weights", weights)
    monkeypatch.setattr(models, "resnet18", lambda weights: resnet)
    monkeypatch.setattr(models, "vit_b_16", lambda weights: vit)
    monkeypatch.setattr(models.video, "r3d_18", lambda weights: video_net)


@pytest.mark.usefixtures("folders", "small_models")
@pytest.mark.filterwarnings("ignore::probe.ProbeWarning")
def test_the_cells_of_the_readme_run_one_after_the_other():
    for number, photo in enumerate(sorted(Path("photos").iterdir())[:20]):
        place = Path("imagenet", "val", str(number % 2), photo.name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(photo.resolve())
    photo = next(Path("photos").iterdir()).resolve()
    Path("videos").unlink()
    for number in range(20):
        video = Path("videos", "waving", str(number))
        video.mkdir(parents=True)
        for frame in range(1, 17):
            (video / f"image_{frame:05}.png").symlink_to(photo)
    try:
        run_page(DOCS.parent / "README.md", {"__name__": "__main__"})
    finally:
        plt.close("all")


def commands():
    for path in [*PAGES, DOCS.parent / "README.md", DOCS.parent / "analyses" / "README.md"]:
        for block in BLOCK.finditer(path.read_text(encoding="utf-8")):
            for line in block["code"].replace("\\\n", " ").splitlines():
                if block["language"] == "bash" and re.search(r"(^|-m )probe ", line):
                    yield pytest.param(re.split(r"(?:^|-m )probe ", line)[1], id=f"{path.name}: {line[:60]}")


@pytest.mark.parametrize("line", list(commands()))
def test_every_command_and_option_exists(line):
    words, part = shlex.split(line, comments=True), main
    context = click.Context(main, **main.context_settings)  # a command keeps the names of its first --help
    while isinstance(part, click.Group) and words and part.get_command(context, words[0]) is not None:
        part = part.get_command(context, words.pop(0))
    assert part is not main or words[0].startswith("--")
    known = {name for parameter in part.get_params(context) for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if re.match("--?[a-z]", word)} <= known


def test_a_wrong_output_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\n1 + 1\n```\n\n```text\n3\n```\n")
    with pytest.raises(AssertionError, match=r"page.md, line 2: expected"):
        run_page(page, {})


def test_there_are_25_entries_and_each_has_code():
    entries = [
        entry
        for path in sorted((DOCS / "how").glob("*.md"))
        if path != SET_UP
        for entry in path.read_text(encoding="utf-8").split("\n## ")[1:]
    ]
    assert len(entries) >= 25
    assert [entry.partition("\n")[0] for entry in entries if not BLOCK.search(entry)] == []


def test_every_error_has_a_page_with_symptom_cause_and_cure():
    errors = {name for name in probe.errors.__all__ if name.endswith(("Error", "Warning"))} - {"ProbeError"}
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (DOCS / "errors").glob("*.md")}
    assert set(pages) - {"index"} == errors
    for name in errors:
        assert f"```text\n{name}: " in pages[name], name
        assert pages[name].count("**Cause.**") == pages[name].count("**Cure.**") >= 1, name


def test_the_message_of_a_rank_that_was_left_alone_is_the_one_on_its_page():
    """It takes several processes, which a page cannot start."""
    with pytest.raises(probe.errors.RankError) as caught, ranks._waiting():
        raise RuntimeError("connection closed by peer")
    assert f"```text\nRankError: {caught.value}\n```" in (DOCS / "errors" / "RankError.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def site_tools():
    sys.path.insert(0, str(DOCS))
    yield lambda name: runpy.run_path(str(DOCS / f"{name}.py"))
    sys.path.remove(str(DOCS))


def test_every_public_name_stands_in_the_reference_once(site_tools):
    groups = site_tools("reference")["GROUPS"]
    listed = [name for group in groups if group.module == "probe" for name in group.names]
    errors = next(group.names for group in groups if group.module == "probe.errors")
    assert sorted([*listed, *(set(errors) & set(probe.__all__))]) == sorted(probe.__all__)
    assert set(errors) == {name for name in probe.errors.__all__ if name.endswith(("Error", "Warning"))}
    for group in groups:
        if group.module in ("probe.testing", "probe.analyses.nets"):
            assert sorted(group.names) == sorted(__import__(group.module, fromlist=["__all__"]).__all__)


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ('<a href="b.html#there">x</a><a href="https://example.org">x</a>', None),
        ('<a href="none.html">x</a>', "a.html: links to none.html, which is no file."),
        ('<a href="b.html#gone">x</a>', "a.html: links to b.html#gone, where nothing has this name."),
        ('<script src="https://example.org/a.js"></script>', "a.html: loads https://example.org/a.js."),
        ('<link rel="stylesheet" href="//example.org/a.css">', "a.html: loads //example.org/a.css."),
        ("<style>@import 'https://example.org/a.css';</style>", "a.html: loads https://example.org/a.css."),
        ('<img srcset="b.html, https://example.org/a.png 2x">', "a.html: loads https://example.org/a.png."),
    ],
)
def test_broken_links_and_what_other_hosts_hold_are_found(page, fault, tmp_path, site_tools):
    (tmp_path / "a.html").write_text(page)
    (tmp_path / "b.html").write_text('<p id="there">')
    assert site_tools("links")["faults"](tmp_path) == ([] if fault is None else [fault])


def test_fonts_of_other_hosts_are_found(tmp_path, site_tools):
    (tmp_path / "a.css").write_text("@font-face { src: url(https://example.org/font.woff2) }")
    assert site_tools("links")["faults"](tmp_path) == ["a.css: loads https://example.org/font.woff2."]


@pytest.mark.skipif(find_spec("myst_nb") is None, reason="needs the extra docs: make docs")
def test_the_pages_build_without_a_warning(tmp_path):
    """Those of the folder alone: the reference and notebooks are built by ``make docs``."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("conf.py", "method.md"):
        (source / name).write_bytes((DOCS / name).read_bytes())
    (source / "static").symlink_to(DOCS / "static")
    (source / "index.md").write_text("# Start\n\n```{toctree}\nmethod\n```\n")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(source), str(tmp_path / "site")]
    # Links to other pages of the site are the only thing that cannot be right here.
    done = subprocess.run([*command, "-D", "suppress_warnings=myst.xref_missing"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "method.html").is_file()
