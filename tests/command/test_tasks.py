"""How commands run and speak: notes, warnings and errors, one process or ranks."""

import warnings

import click
import pytest
from click.testing import CliRunner

from probe.command.tasks import Program, Task, is_first_rank, note
from probe.errors import ArgumentError, ProbeWarning


@click.group("probe", cls=Program, examples=["probe speak"])
def program():
    pass


@program.command("speak", cls=Task, examples=["probe speak"])
@click.option("--fail", is_flag=True)
@click.pass_obj
def speak(command, fail, quiet):
    note(f"command: {command}", quiet)
    for _ in range(2):
        warnings.warn("few images", ProbeWarning, stacklevel=1)
    warnings.warn("of another library", UserWarning, stacklevel=1)
    if fail:
        error = ArgumentError("fail: expected nothing.")
        error.add_note("while reading")
        raise error
    click.echo("done")


def run(*words):
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        return CliRunner().invoke(program, list(words))


@pytest.mark.parametrize(("words", "notes"), [(["speak"], True), (["speak", "--quiet"], False)])
def test_notes_and_warnings_go_to_stderr_and_quiet_keeps_the_warnings(words, notes):
    outcome = run(*words)
    assert outcome.exit_code == 0 and outcome.stdout == "done\n"
    assert ("command: probe speak\n" in outcome.stderr) == notes
    assert outcome.stderr.count("warning: few images\n") == 1


def test_an_error_is_one_message_with_its_notes_and_debug_shows_where():
    outcome = run("speak", "--fail")
    assert outcome.exit_code == 1 and "error: --fail: expected nothing.\nwhile reading\n" in outcome.stderr
    assert isinstance(run("speak", "--fail", "--debug").exception, ArgumentError)


def test_a_command_of_one_process_refuses_ranks(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "1")
    assert not is_first_rank()
    outcome = run("speak")
    assert outcome.exit_code == 2 and "`probe speak` runs in one process, and 3 were started" in outcome.stderr


def test_a_word_that_is_no_command_is_answered_with_the_one_meant():
    outcome = run("speek")
    assert outcome.exit_code == 2 and "No such command 'speek'" in outcome.stderr and "speak" in outcome.stderr
