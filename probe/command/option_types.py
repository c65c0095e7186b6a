"""What options take besides text: names that are known, arguments of functions, files of results."""

import ast
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from probe.command.names import DEVICES, near_names
from probe.models.notation import LAYOUTS, read_layout

__all__ = ["Device", "ExistingFolder", "KeyValues", "Layout", "Names", "PageFile", "Parts", "ResultFile", "Shard"]

_NUMBERED = re.compile(r"([a-z]+)(:\d+)?")


class Parts(click.ParamType):
    """Words with commas between them."""

    name = "parts"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Take them apart."""
        return value if isinstance(value, tuple) else tuple(filter(None, (part.strip() for part in value.split(","))))


class ResultFile(click.Path):
    """The file of a result, which is netCDF and no page, picture or table."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse a name that promises something else."""
        path = Path(str(super().convert(value, param, ctx)))
        if path.suffix not in ("", ".nc"):
            better = path.with_suffix(".nc")
            self.fail(
                f"{path}: a result is a netCDF file; name it {better}. `probe show {better}` then shows its numbers "
                f"and figures, and `probe report {better}` writes its page.",
                param,
                ctx,
            )
        return path


class PageFile(click.Path):
    """The file of a page, which is HTML and no result, picture or document of another kind."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse a name that promises something else."""
        path = Path(str(super().convert(value, param, ctx)))
        if path.suffix not in ("", ".html", ".htm"):
            self.fail(f"{path}: a page is an HTML file; name it {path.with_suffix('.html')}.", param, ctx)
        return path


class ExistingFolder(click.Path):
    """A folder that is there."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse what is none, and offer the folder of a file."""
        path = Path(value)
        if not path.is_dir():
            found = f"is a file; pass its folder, {path.parent}" if path.exists() else "there is no such folder"
            self.fail(f"{path}: {found}.", param, ctx)
        return path


class Names(click.ParamType):
    """Some of several names, with commas between them."""

    name = "names"

    def __init__(self, known: Sequence[str]) -> None:
        self.known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Take names apart, and refuse those that there are not."""
        names = value if isinstance(value, tuple) else tuple(filter(None, (part.strip() for part in value.split(","))))
        for name in names:
            if name not in self.known:
                known = ", ".join(self.known)
                self.fail(f"{name!r} is none of {known}.{near_names(name, self.known)}", param, ctx)
        return names

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the name behind the last comma."""
        done, comma, begun = incomplete.rpartition(",")
        return [CompletionItem(f"{done}{comma}{name}") for name in self.known if name.startswith(begun)]


class Device(click.ParamType):
    """Where models run: ``auto``, or a device as torch names it, of which there may be several."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse what is no name of a device; whether it is there is seen later."""
        parts = _NUMBERED.fullmatch(value)
        if parts is not None and parts[1] in DEVICES and not (parts[1] == "auto" and parts[2]):
            return str(value)
        letters = re.sub(r"[^a-z]", "", value.lower())
        if letters in ("gpu", "nvidia", "rocm", "amd"):
            near = " A GPU of NVIDIA or AMD is cuda, one of Apple mps."
        elif letters in DEVICES and letters != "auto" and (number := re.search(r"\d+", value)):
            near = f" Did you mean {letters}:{number[0]}?"
        else:
            near = near_names(letters, DEVICES)
        self.fail(f"{value!r} is none of {', '.join(DEVICES)}, or one of several, as cuda:1.{near}", param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete a name."""
        return [CompletionItem(name) for name in DEVICES if name.startswith(incomplete)]


class Shard(click.ParamType):
    """One of several shares, ``3/8``."""

    name = "shard"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Take it apart, and refuse what is none."""
        if isinstance(value, tuple):
            return value
        parts = re.fullmatch(r"(\d+)/(\d+)", value)
        if parts is None or not 1 <= int(parts[1]) <= int(parts[2]):
            self.fail(f"{value!r} is not K/N, the K-th of N shards, from 1/N to N/N, such as 3/8.", param, ctx)
        return int(parts[1]), int(parts[2])


class Layout(click.ParamType):
    """The axes of an output, and which of its tokens are patches."""

    name = "layout"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse what is no layout."""
        if read_layout(value) is None:
            axes = value.partition("[")[0]
            near = near_names(axes.upper(), LAYOUTS) if axes not in LAYOUTS else ""
            self.fail(
                f"{value!r} is none of {', '.join(LAYOUTS)} (N images, C channels, H rows, W columns, L tokens); nor "
                "tells which tokens are patches, as NLC[5:201], or their grid besides, as 'NLC[5:201](14, 14)'."
                f"{near}",
                param,
                ctx,
            )
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the axes."""
        return [CompletionItem(axes) for axes in LAYOUTS if axes.startswith(incomplete)]


class KeyValues(click.ParamType):
    """Arguments of a function, ``name=value,...``, the values as Python writes them."""

    name = "arguments"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """Read the values, without running anything in them."""
        if isinstance(value, dict):
            return value
        try:
            call = ast.parse(f"f({value})", mode="eval").body
            if (
                not isinstance(call, ast.Call)
                or call.args
                or len({item.arg for item in call.keywords} - {None}) < len(call.keywords)
            ):
                raise SyntaxError
        except (SyntaxError, ValueError):
            self.fail(f"{value!r} is not NAME=VALUE,... as Python writes it, such as depth=3,bias=False", param, ctx)
        found: dict[str, Any] = {}
        for item in call.keywords:
            text = ast.unparse(item.value)
            try:
                found[str(item.arg)] = ast.literal_eval(item.value)
            except ValueError:
                hint = f"; text is quoted: {item.arg}={text!r}" if text.isidentifier() else ""
                self.fail(f"{item.arg}={text} is no number, text, True, False, None or list of these{hint}", param, ctx)
        return found
