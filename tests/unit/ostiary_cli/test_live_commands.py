"""`ostiary sessions --live` and `ostiary kill`, where no gateway runs, and how sessions are shown."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from ostiary_cli.live_view import live_table
from ostiary_cli.main import cli


def ostiary(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(each) for each in arguments], prog_name="ostiary")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize("arguments", [("sessions", "--live"), ("kill", "01m84ebh7")])
def test_only_a_running_gateway_has_sessions(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = ostiary(*arguments, "--data", tmp_path)
    assert result.exit_code == 3
    assert f"No gateway listens at {tmp_path / 'admin.sock'}" in result.stderr
    assert "--data DIR" in result.stderr


@pytest.mark.parametrize("more", [("--since", "2h"), ("--decision", "Deny"), ("--state", "open")])
def test_what_is_for_recorded_sessions_is_not_for_live_ones(tmp_path: Path, more: tuple[str, str]) -> None:
    result = ostiary("sessions", "--live", "--data", tmp_path, *more)
    assert result.exit_code == 2
    assert "are for recorded sessions, not for --live" in result.stderr


def test_each_request_that_runs_has_a_line_and_nothing_of_it_acts_on_the_terminal() -> None:
    session = {
        "session": "01m84ebh78sk68kxw7gk",
        "connection": "default/web",
        "username": "planner\x1b[2J",
        "opened": 1_795_445_605.0,
        "running": [
            {"request": "01m84ebh78sk68kxw7gk-1", "since": 1_795_445_606.0, "text": "[b]sleep 61\x1b]0;x\x07"},
            {"request": "01m84ebh78sk68kxw7gk-3", "since": 1_795_445_607.0, "text": "tail -f log"},
        ],
    }
    console = Console(width=160, file=io.StringIO())
    console.print(live_table([session, {**session, "running": []}], 1_795_445_617.0))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "planner\\x1b[2J" in text
    assert "-1, 11.00 s: [b]sleep 61" in text
    assert "-3, 10.00 s: tail -f log" in text
    assert text.count("01m84ebh78sk68kxw7gk") == 2
    assert "nothing" in text
    assert "\x1b" not in text
    assert "\x07" not in text
