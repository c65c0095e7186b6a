"""How commands run and speak: examples in the help, ranks, warnings, errors, notes and results."""

import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from probe.command.names import near_names
from probe.command.wording import as_options
from probe.errors import ProbeError, ProbeWarning

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Program", "Studies", "Task", "is_first_rank", "note", "tell"]

_MODELS = """\
resnet18, or another name of torchvision
timm:NAME, a model of timm
hf:FOLDER, a local folder of a Hugging Face model
module:function, your own: nets:make_net calls make_net() in nets.py
"""
_INTERRUPTED = 130
_OF_CLICK = (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError)


class _WithExamples(click.Command):
    """A command whose help ends with examples."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what a model may be, where one is taken, and the examples, unwrapped."""
        if any(parameter.name == "model" for parameter in self.params):
            with formatter.section("MODEL is one of"):
                for line in _MODELS.splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")


class Program(_WithExamples, click.Group):
    """All commands; keeps the command line, which results record."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the command line for the commands' ``pass_obj``."""
        ctx.obj = shlex.join(["probe", *args])
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names, or offer those like it."""
        if args[0] not in self.commands and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}.{near_names(args[0], self.commands)}")
        return super().resolve_command(ctx, args)


class Studies(_WithExamples, click.Group):
    """Commands by name; what is no name goes to the command ``file``."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names, or that takes it."""
        if args[0] in self.commands:
            return super().resolve_command(ctx, args)
        if not args[0].startswith("-") and not Path(args[0]).suffix and not Path(args[0]).exists():
            known = [name for name in self.commands if name != "file"]
            ctx.fail(
                f"{args[0]!r} is neither {' nor '.join(known)}, nor a file.{near_names(args[0], known)} The page of a "
                "saved result is written by `probe report FILE.nc`."
            )
        return super().resolve_command(ctx, ["file", *args])


class Task(_WithExamples):
    """A command that tells warnings and errors in short lines on stderr, and ends with 0, 1 or 130.

    Where `torchrun` starts several, those that can share the images do so, and the first one alone speaks; an error is
    told by the rank that has it.
    """

    def __init__(self, *args: Any, in_ranks: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.in_ranks = in_ranks
        self.params += [
            click.Option(["--quiet"], is_flag=True, help="Show no progress and no notes; warnings stay."),
            click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        debug = ctx.params.pop("debug")
        if n_ranks() > 1 and not self.in_ranks:
            raise click.UsageError(
                f"`probe {self.name}` runs in one process, and {n_ranks()} were started. layerwise, channelwise and "
                "collect share the images."
            )
        ctx.params["quiet"] = ctx.params["quiet"] or not is_first_rank()
        try:
            with _short_warnings(ctx):
                return super().invoke(ctx)
        except _OF_CLICK:
            raise
        except KeyboardInterrupt as interrupt:
            click.echo(f"interrupted{f': {interrupt}' if str(interrupt) else ''}", err=True)
            ctx.exit(_INTERRUPTED)
        except Exception as error:
            if debug:
                raise
            click.echo(f"error: {_describe(error, ctx)}", err=True)
            ctx.exit(1)


def n_ranks() -> int:
    """Return how many processes a launcher such as `torchrun` started."""
    return int(os.environ["WORLD_SIZE"]) if "MASTER_ADDR" in os.environ and "WORLD_SIZE" in os.environ else 1


def is_first_rank() -> bool:
    """Tell whether this is the process that speaks and writes."""
    return n_ranks() == 1 or os.environ.get("RANK", "0") == "0"


@contextmanager
def _short_warnings(ctx: click.Context) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("always" if is_first_rank() else "ignore", category=ProbeWarning)
        shown: set[str] = set()

        def show(message: Warning | str, category: type[Warning], *place: Any, **given: Any) -> None:
            # Each reading of the images has the same to say.
            if str(message) not in shown:
                shown.add(str(message))
                own = issubclass(category, ProbeWarning)
                _show_warning(as_options(str(message), ctx) if own else str(message), category, *place, **given)

        warnings.showwarning = show
        yield


def _show_warning(
    message: str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    from tqdm import tqdm

    # Beside a progress bar, not into it.
    tqdm.write(f"warning: {message}", file=sys.stderr)


def _describe(error: Exception, ctx: click.Context) -> str:
    """Return the message of an error of probe; for one of the user's code, its kind and where it happened as well."""
    if not isinstance(error, ProbeError):
        return "\n".join([f"{type(error).__name__}: {error}", *_notes_on(error, ctx)])
    return "\n".join([as_options(str(error), ctx), *_notes_on(error, ctx)])


def _notes_on(error: Exception, ctx: click.Context) -> list[str]:
    """Return what was noted on an error: words of probe's own, and those of the user's code as they are."""
    notes = getattr(error, "__notes__", ())
    return [as_options(note, ctx) if note.startswith("probe: ") else note for note in notes]


def note(message: str, quiet: bool) -> None:
    """Tell something beside the result, on stderr."""
    if not quiet:
        click.echo(message, err=True)


def tell(result: "xr.Dataset", file: Path | None, as_json: bool) -> None:
    """Print the main numbers of a result, and where it is if it was saved."""
    from probe.command.tables import WIDEST, write_json, write_table

    if as_json:
        click.echo(write_json(result, file))
    else:
        click.echo(write_table(result, min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST)))
        if file is not None:
            click.echo(f"result: {file}")
