"""Messages name arguments as Python writes them; a command says them as its options, where it has such."""

import ast
import re
import shlex
from typing import Any

import click

__all__ = ["as_options"]

_VALUE = r"'[^']*'|\"[^\"]*\"|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|None|True|False|\([^()]*\)"
# A call, as images.mean(1, keepdim=True), is Python's own.
_CALL = r"\w\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
# So are quoted names, of files and layers, and so are paths.
_NAME = r"(?<!\w)'[^'\n]*'|[^\s'\"]*[/\\][^\s'\"]*"
_GIVEN = re.compile(rf"{_CALL}|{_NAME}|(?<![\w.{{=,/-])([a-z][a-z_0-9]*)=({_VALUE})?(?![\w(\[{{<])")
_BEGINNING = re.compile(r"^([a-z][a-z_0-9]*)(?=: )")


def as_options(message: str, ctx: click.Context) -> str:
    """Return a message with the options of the running command in place of the arguments of Python.

    Parameters
    ----------
    message
        Of an error or a warning, in which arguments are written ``name=value`` or ``name=``, or begin it as ``name:``.
    ctx
        Of the command; an argument that it has no option for, or a value that no option takes, stays as it is.

    Examples
    --------
    >>> command = click.Command("measure", params=[click.Option(["--batch-size"], type=int)])
    >>> ctx = click.Context(command)
    >>> as_options("Use batch_size=1, a smaller batch_size= or transform=.", ctx)
    'Use --batch-size 1, a smaller --batch-size or transform=.'
    """
    options = {
        name.lstrip("-").replace("-", "_"): param
        for param in ctx.command.params
        if isinstance(param, click.Option)
        for name in [*param.opts, param.name or ""]
    }

    def written(match: re.Match[str]) -> str:
        option = options.get(match[1])
        if option is None:
            return match[0]
        name = max(option.opts, key=len)
        if match[2] is None:
            return name
        try:
            value = _as_word(ast.literal_eval(match[2]), option, ctx)
        except (SyntaxError, ValueError):  # as 007 and (h, w), which are no values of Python
            return match[0]
        return match[0] if value is None else f"{name} {value}".rstrip()

    def begun(match: re.Match[str]) -> str:
        option = options.get(match[1])
        return match[0] if option is None else max(option.opts, key=len)

    return _BEGINNING.sub(begun, _GIVEN.sub(written, message))


def _as_word(value: Any, option: click.Option, ctx: click.Context) -> str | None:
    """Return how an option takes a value on the command line; None if it does not."""
    if option.is_flag or isinstance(value, bool):
        return "" if option.is_flag and value is True else None
    if isinstance(value, list | tuple):
        return shlex.quote(",".join(map(str, value)))
    if value is not None:
        return shlex.quote(str(value))
    for word in (option.metavar or "").split("|"):
        try:
            if word and option.process_value(ctx, word) is None:
                return word
        except click.BadParameter:
            continue
    return None
