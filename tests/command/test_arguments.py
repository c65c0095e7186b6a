"""What the shared options make of words."""

import click
import pytest
from click.testing import CliRunner

from probe.analyses.overview.settings import QUICK
from probe.command.arguments import positions_option, several, size_option
from probe.command.main import main


def parsed(option, *words):
    found = {}

    @click.command()
    @option
    def command(**given):
        found.update(given)

    outcome = CliRunner().invoke(command, list(words))
    return (outcome.exit_code, outcome.stderr) if outcome.exit_code else next(iter(found.values()))


@pytest.mark.parametrize(
    ("option", "words", "expected"),
    [
        (positions_option, (), "auto"),
        (positions_option, ("--positions", "all"), None),
        (positions_option, ("--positions", "7"), 7),
        (size_option, (), None),
        (size_option, ("--size", "own"), "own"),
        (size_option, ("--size", "96"), 96),
        (several("--layers"), ("--layers", "a,b", "--layers", "c"), ("a", "b", "c")),
    ],
)
def test_words_become_values(option, words, expected):
    assert parsed(option, *words) == expected


@pytest.mark.parametrize(
    ("option", "words", "message"),
    [
        (positions_option, ("--positions", "0"), "'0' is not auto, all or a whole number of at least 1"),
        (size_option, ("--size", "large"), "'large' is not own or a whole number of at least 1"),
    ],
)
def test_others_are_refused_by_name(option, words, message):
    code, said = parsed(option, *words)
    assert code == 2 and message in said


@pytest.mark.parametrize(
    ("words", "default"),
    [
        (["layerwise"], "all"),
        (["report", "model"], f"all; with --quick {QUICK.max_images}"),
        (["analyse"], "as the study and its preset say"),
    ],
)
def test_the_help_tells_how_many_images_are_read_without_the_option(words, default):
    said = " ".join(CliRunner().invoke(main, [*words, "--help"], terminal_width=200).output.split())
    assert f"--max-images N Read so many, evenly spaced. [default: {default}]" in said
