"""What messages say of arguments in Python is said of options at the command, and nothing else is changed."""

import click
import pytest

from probe.command.main import main
from probe.command.wording import as_options


@pytest.fixture
def layerwise():
    return click.Context(main.commands["layerwise"])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Pass more images, or positions=None.", "Pass more images, or --positions all."),
        ("Choose fewer layers=, stimuli= or folds=.", "Choose fewer --layers, --stimuli or --folds."),
        ("folds=2: expected more.", "--folds 2: expected more."),
        ("alpha=0.001 is too small", "--alpha 0.001 is too small"),
        ("maps='layer 1*': not among", "--maps 'layer 1*': not among"),
        ("maps=('conv9', 'a'): no", "--maps conv9,a: no"),
        ("layers: no layer 'conv9'", "--layers: no layer 'conv9'"),
        ("Pass overwrite=True to replace it.", "Pass --overwrite to replace it."),
        ("x: pass layout={'mix': 'LNC'}", "x: pass layout={'mix': 'LNC'}"),
        ("image.mean(0, seed=1) in transform=.", "image.mean(0, seed=1) in transform=."),
        ("several (positions=None)", "several (--positions all)"),
        ("groups= and first_image=3", "groups= and first_image=3"),
        ("DataLoader(images, batch_size=None)", "DataLoader(images, batch_size=None)"),
        ("probe: while the model ran: seed", "probe: while the model ran: seed"),
        ("images: no image below /d/seed=007.", "--images: no image below /d/seed=007."),
        ("weights /d/alpha=0.1,seed=3/net.pt: damaged", "weights /d/alpha=0.1,seed=3/net.pt: damaged"),
        (r"images='C:\Users\me': no folder", r"images='C:\Users\me': no folder"),
        ("no layer 'seed=1'", "no layer 'seed=1'"),
        ("folds=007 or size=(h, w)", "folds=007 or size=(h, w)"),
        ("layers=<class 'Conv2d'>: none", "layers=<class 'Conv2d'>: none"),
        ("f(g(h(1)), seed='1')", "f(g(h(1)), seed='1')"),
        ("layers=True: expected a name", "layers=True: expected a name"),
    ],
)
def test_an_argument_becomes_its_option(said, expected, layerwise):
    assert as_options(said, layerwise) == expected


def test_of_a_command_without_the_option_it_stays():
    assert as_options("folds=2, size=3", click.Context(main.commands["layers"])) == "folds=2, --size 3"
