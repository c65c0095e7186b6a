"""Words, names, arguments of functions and files of results are read from text."""

from pathlib import Path

import click
import pytest

from probe.command.option_types import KeyValues, Names, Parts, ResultFile


def test_parts():
    assert Parts().convert("a, b,,c", None, None) == ("a", "b", "c")


def test_names_are_known_or_refused():
    names = Names(["row", "column"])
    assert names.convert("row,column", None, None) == ("row", "column")
    with pytest.raises(click.BadParameter, match=r"'colum' is none of row, column\. Did you mean column\?"):
        names.convert("row,colum", None, None)


def test_the_shell_completes_the_name_behind_the_last_comma():
    option = click.Option(["--targets"])
    found = Names(["row", "radius", "column"]).shell_complete(click.Context(click.Command("x")), option, "column,r")
    assert [item.value for item in found] == ["column,row", "column,radius"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("depth=3", {"depth": 3}),
        ("depth=3, bias=False, name='a,b'", {"depth": 3, "bias": False, "name": "a,b"}),
        ("size=(2, 3),rates=[0.1,-1],more={'a': None}", {"size": (2, 3), "rates": [0.1, -1], "more": {"a": None}}),
        ("", {}),
    ],
)
def test_arguments_are_python_literals(text, values):
    assert KeyValues().convert(text, None, None) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depth", "is not NAME=VALUE"),
        ("depth=", "is not NAME=VALUE"),
        ("3", "is not NAME=VALUE"),
        ("**{'a': 1}", "is not NAME=VALUE"),
        ("a=1) + f(b=2", "is not NAME=VALUE"),
        ("a=1, a=2", "is not NAME=VALUE"),
        ("padding=zeros", "text is quoted: padding='zeros'"),
        ("a=__import__('os').getcwd()", "is no number, text"),
    ],
)
def test_anything_else_is_refused_and_not_run(text, message):
    with pytest.raises(click.BadParameter, match=message):
        KeyValues().convert(text, None, None)


def test_results_are_netcdf():
    assert ResultFile().convert("a/x.nc", None, None) == Path("a/x.nc")
    for name in ("x.html", "x.png", "x.csv"):
        with pytest.raises(click.BadParameter, match=r"a result is a netCDF file; name it x\.nc"):
            ResultFile().convert(name, None, None)
