"""Words, names, arguments of functions and files of results are read from text."""

import re
from pathlib import Path

import click
import pytest
import torch

from probe.command.names import DEVICES
from probe.command.option_types import Device, KeyValues, Layout, Names, Parts, ResultFile


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


@pytest.mark.parametrize("name", [name for name in DEVICES if name not in ("auto", "npu")])  # npu: of a package
def test_devices_are_those_of_torch(name):
    assert Device().convert(name, None, None) == name
    assert Device().convert(f"{name}:1", None, None) == f"{name}:1"
    assert torch.device(f"{name}:1").type == name


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("gpu", r"A GPU of NVIDIA or AMD is cuda, one of Apple mps\."),
        ("GPU:0", "is cuda"),
        ("cuda0", r"Did you mean cuda:0\?"),
        ("CUDA", r"Did you mean cuda\?"),
        ("cdua", r"Did you mean cuda\?"),
        ("auto:1", "Did you mean auto"),
        ("cuda:", "Did you mean cuda"),
        ("", "is none of auto, cpu, cuda"),
    ],
)
def test_what_is_no_device_is_refused_and_one_offered(text, offered):
    with pytest.raises(click.BadParameter, match=offered):
        Device().convert(text, None, None)


@pytest.mark.parametrize("text", ["NCHW", "NLC[5:201]", "NLC[1:197](14, 14)"])
def test_layouts_are_taken_as_they_are_written(text):
    assert Layout().convert(text, None, None) == text


@pytest.mark.parametrize(
    ("text", "offered"),
    [("NCWH", r"Did you mean NCHW"), ("nlc", r"Did you mean NLC"), ("NLC[5]", r"as NLC\[5:201\]")],
)
def test_what_is_no_layout_is_refused_with_the_forms(text, offered):
    with pytest.raises(click.BadParameter, match=rf"'{re.escape(text)}' is none of NCHW, .*{offered}"):
        Layout().convert(text, None, None)


def test_the_shell_completes_devices_and_layouts():
    option, context = click.Option(["--x"]), click.Context(click.Command("x"))
    assert [item.value for item in Device().shell_complete(context, option, "c")] == ["cpu", "cuda"]
    assert [item.value for item in Layout().shell_complete(context, option, "NL")] == ["NLC"]
