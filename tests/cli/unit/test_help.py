"""The text and the form of `ticketing -h`."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from tests.terminals import at_terminal
from ticketing.cli.main import cli
from ticketing.settings import PREFIX, Settings


def commands() -> Iterator[tuple[str, ...]]:
    """Each command as the operator types it."""
    waiting: list[tuple[tuple[str, ...], object]] = [((), typer.main.get_command(cli))]
    for typed, command in waiting:
        yield typed
        if isinstance(command, TyperGroup):
            waiting += [((*typed, name), each) for name, each in command.commands.items()]


def said(*arguments: str) -> str:
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0
    return done.output


@pytest.mark.parametrize("typed", list(commands()))
def test_every_command_explains_itself_to_the_short_option_too(typed: tuple[str, ...]) -> None:
    shown = said(*typed, "-h")
    assert shown == said(*typed, "--help")
    assert re.search(r"^  -h, --help +Show this message", shown, re.MULTILINE)
    assert "\x1b" not in shown


def test_commands_are_in_groups_and_settings_are_pointed_to() -> None:
    shown = said("-h")
    assert shown.index("Service:") < shown.index("Database:") < shown.index("Accounts:")
    assert "`ticketing serve -h` lists every setting" in " ".join(shown.split())


@pytest.mark.parametrize("field", list(Settings.model_fields))
def test_the_help_of_serve_has_every_setting(field: str) -> None:
    shown = said("serve", "-h")
    assert re.search(rf"^  {PREFIX}{field.upper()}\n    \S", shown, re.MULTILINE)
    assert f"`{field}`" not in shown


def test_the_help_of_serve_has_the_choices_and_the_defaults() -> None:
    shown = " ".join(said("serve", "-h").split())
    assert "[text | json] [default: text] TICKETING_" in shown
    assert "[default: 60/60s] TICKETING_" in shown
    assert "[default: 1] TICKETING_" in shown


def test_colours_are_for_terminals_that_want_them(tmp_path: Path) -> None:
    shown = at_terminal(tmp_path, "-h")
    assert "\x1b[1mService\x1b[0m:" in shown
    assert "\x1b[36mserve\x1b[0m    Run the service." in shown
    for unwanted in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        plain = at_terminal(tmp_path, "-h", environment=unwanted)
        assert plain == re.sub(r"\x1b\[\d+m", "", shown)
    wrong = at_terminal(tmp_path, "serve", environment={"TICKETING_WORKERS": "0"})
    assert wrong.startswith("\x1b[31mticketing:\x1b[0m TICKETING_WORKERS: ")
