"""Build the site: stage the sources, run Sphinx, check the links. Called by ``make docs``.

Sphinx with MyST, and not pdoc: half of the site is pages in Markdown, and notebooks with their outputs.
"""

import inspect
import os
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from links import faults
from reference import GROUPS, Group
from sphinx.cmd.build import main as sphinx

from probe.analyses.studies import find_studies
from probe.command.main import main as command

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "build" / "docs-sources"
SITE = ROOT / "build" / "docs"


def stage() -> None:
    """Bring together all that Sphinx reads: the pages of this folder, and those that are made from elsewhere."""
    shutil.rmtree(SOURCES, ignore_errors=True)
    shutil.copytree(ROOT / "docs", SOURCES, ignore=shutil.ignore_patterns("__pycache__"))
    for group in GROUPS:
        write_group(group)
    write_studies()
    write_command()
    write_notebooks()
    copied = {"analyses/README.md": "numbers.md", "CHANGELOG.md": "changelog.md"}
    for name, page in copied.items():
        text = (ROOT / name).read_text(encoding="utf-8") if (ROOT / name).is_file() else "# Changes\n\nNone yet.\n"
        write(page, text)


def write(page: str, text: str) -> None:
    """Write one source."""
    path = SOURCES / page
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def first_sentence(thing: Any) -> str:
    """Return the first line of a docstring."""
    return (inspect.getdoc(thing) or "").partition("\n")[0].replace("|", "\\|")


def write_group(group: Group) -> None:
    """Write a table of the names of a group, and a page for each of them."""
    rows = []
    for name in group.names:
        thing = getattr(import_module(group.module), name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            kind = "autoclass" if inspect.isclass(thing) else "autofunction"
            members = "   :members:\n" if inspect.isclass(thing) and group.module != "probe.errors" else ""
            directive = f".. currentmodule:: {group.module}\n\n.. {kind}:: {name}\n{members}"
            told = first_sentence(thing)
        else:
            told = group.told[name]
            keys = ", ".join(f"``{key!r}``" for key in thing)
            directive = f".. currentmodule:: {group.module}\n\n.. py:data:: {name}\n\n   {told}\n\n   {keys}\n"
        write(f"reference/{group.page}/{name}.md", f"# {name}\n\n```{{eval-rst}}\n{directive}```\n")
        rows.append(f"| [`{name}`]({group.page}/{name}.md) | {told} |")
    toctree = "\n".join(["```{toctree}", ":hidden:", *(f"{group.page}/{name}" for name in group.names), "```"])
    table = "\n".join(["| name | what it is |", "|---|---|", *rows])
    write(f"reference/{group.page}.md", f"# {group.title}\n\n{group.story}\n\n{table}\n\n{toctree}\n")


def write_studies() -> None:
    """Write a page for each study: its question, protocol, departures, and how it is run."""
    rows, names = [], []
    for name, module in find_studies().items():
        study = module.STUDY
        times = "\n".join(f"- `{preset}`: {time}" for preset, time in study.times.items())
        lists = "\n\n".join(
            f"## {title}\n\n" + "\n".join(f"- {escaped(line)}" for line in lines)
            for title, lines in (("Protocol", study.protocol), ("Departures", study.departures))
            if lines
        )
        write(
            f"reference/studies/{name}.md",
            f"# {escaped(study.title)}\n\n{escaped(study.question)}\n\n"
            f"{'Source: ' + escaped(study.source) if study.source else 'A study of our own.'}\n\n{times}\n\n{lists}\n\n"
            f"## In Python\n\n```{{eval-rst}}\n.. currentmodule:: {module.__name__}\n\n.. autofunction:: run\n```\n",
        )
        names.append(name)
        rows.append(f"| [`{name}`](studies/{name}.md) | {escaped(study.question)} |")
    toctree = "\n".join(["```{toctree}", ":hidden:", *(f"studies/{name}" for name in names), "```"])
    story = (
        "`probe analyse NAME --preset quick -o NAME.nc` runs a study, `probe report NAME.nc` makes its page. In Python "
        "each has a function `run`. Published and own numbers are on [a page of their own](../numbers.md)."
    )
    table = "\n".join(["| study | question |", "|---|---|", *rows])
    write("reference/studies.md", f"# Studies\n\n{story}\n\n{table}\n\n{toctree}\n")


def escaped(text: str) -> str:
    """Return a sentence for Markdown."""
    for sign in "\\*_|<[":
        text = text.replace(sign, f"\\{sign}")
    return text


def write_command() -> None:
    """Write the help of the command and of all its parts, as the command itself tells it."""
    sections = ["# The command line\n"]

    def tell(part: click.Command, name: str, above: click.Context | None) -> None:
        context = part.make_context(name, ["--help"], parent=above, resilient_parsing=True)
        path = context.command_path
        sections.append(f"{'#' * (path.count(' ') + 1)}# {path}\n\n```none\n{part.get_help(context)}\n```\n")
        if isinstance(part, click.Group):
            for below in part.list_commands(context):
                found = part.get_command(context, below)
                assert found is not None
                tell(found, below, context)

    tell(command, "probe", None)
    write("command-line.md", "\n".join(sections))


def write_notebooks() -> None:
    """Copy ``examples``: notebooks with whatever outputs they have, and the files that they link to."""
    shutil.copytree(ROOT / "examples", SOURCES / "notebooks", ignore=shutil.ignore_patterns(".*", "__pycache__"))
    pages = [f"notebooks/{path.name}" for path in sorted((ROOT / "examples").glob("*.ipynb"))]
    story = "They stand in `examples/`, run in the tests, and are shown here with the outputs they were committed with."
    write("notebooks.md", "\n".join(["# Notebooks", "", story, "", "```{toctree}", *pages, "```", ""]))


def main() -> None:
    """Build; end with an error if Sphinx warns, or a link leads nowhere or to another host's files."""
    os.environ["COLUMNS"] = "96"  # what a page shows of a line
    stage()
    shutil.rmtree(SITE, ignore_errors=True)
    doctrees = str(ROOT / "build" / "docs-doctrees")
    code = sphinx(["-W", "--keep-going", "-q", "-E", "-d", doctrees, "-b", "html", str(SOURCES), str(SITE)])
    if code:
        sys.exit(code)
    wrong = faults(SITE)
    if wrong:
        sys.exit("\n".join([*wrong, f"{len(wrong)} links are broken, or load from another host."]))
    sys.stdout.write(f"{SITE / 'index.html'}: {len(list(SITE.rglob('*.html')))} pages, all links lead somewhere.\n")


if __name__ == "__main__":
    main()
