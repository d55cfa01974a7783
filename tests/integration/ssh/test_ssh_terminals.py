"""Terminals over ssh: their size, its changes, keys that are signals, and what is left when the client is gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.ssh_pairs import Side, same
from support.waiting import until

pytestmark = pytest.mark.clients

Sides = tuple[Side, Side]
WATCH = "echo watching; while :; do stty size; sleep 0.05; done"


def test_a_command_at_a_terminal(sides: Sides) -> None:
    def scenario(side: Side) -> None:
        for command in ("tty | cut -c1-9; echo err >&2; exit 7", "stty -a; stty size; echo $TERM", "kill -9 $$"):
            with side.terminal("-t", "target", command, columns=91, rows=17) as screen:
                side.remark((command, screen.ended()))
                side.remark(screen.seen)
        side.ssh("-tt", "target", "stty -echo; read a; echo got $a; exit 3", stdin=b"a line\n")

    same(scenario, *sides)


def test_the_window_becomes_another(sides: Sides) -> None:
    for side in sides:
        with side.terminal("-t", "target", WATCH, columns=100, rows=30) as screen:
            screen.until("watching")
            for columns, rows in ((132, 43), (20, 5), (500, 200)):
                screen.resize(columns, rows)
                screen.until(f"{rows} {columns}")


def test_control_c_ends_the_command_and_control_d_its_input(sides: Sides) -> None:
    def scenario(side: Side) -> None:
        with side.terminal("-t", "target", "echo begun; sleep 60; echo never") as screen:
            screen.until("begun")
            screen.type("\x03")
            side.remark(("sleep", screen.ended()))
        trap = "trap 'echo caught; exit 9' INT; echo begun; while :; do sleep 0.05; done"
        with side.terminal("-t", "target", trap) as screen:
            screen.until("begun")
            screen.type("\x03")
            screen.until("caught")
            side.remark(("trap", screen.ended()))
        with side.terminal("-t", "target", "echo begun; cat; echo done") as screen:
            screen.until("begun")
            screen.type("typed\r")
            screen.until("typed\r\ntyped\r\n")
            screen.type("\x04")
            screen.until("done")
            side.remark(("cat", screen.ended()))

    same(scenario, *sides)


def test_a_shell_that_somebody_types_in(sides: Sides) -> None:
    def scenario(side: Side) -> None:
        with side.terminal("target") as screen:
            screen.type("PS1='> '; unset PROMPT_COMMAND; echo rea''dy\r")
            screen.until("ready\r\n")
            screen.type("echo $((6 * 7)) in $(tty | cut -c1-9)\r")
            screen.until("42 in /dev/pts/\r\n")
            screen.type("echo beg''un; cat\r")
            screen.until("begun\r\n")
            screen.type("it runs\r")
            screen.until("it runs\r\nit runs\r\n")
            screen.type("\x03")
            screen.until("> ")
            screen.type("exit 11\r")
            side.remark(screen.ended())

    same(scenario, *sides)


def test_a_script_on_the_input_of_a_terminal(sides: Sides) -> None:
    for side in sides:
        done = side.ssh("-tt", "target", stdin=b"stty -echo; PS1=\necho $((40 + 2))\nexit 12\n", noted=False)
        assert (done.code, b"42\r\n" in done.out) == (12, True), (side.name, done)


def test_much_output_at_a_terminal_arrives_in_order(sides: Sides) -> None:
    for side in sides:
        with side.terminal("-t", "target", "seq 1 30000") as screen:
            assert screen.ended() == 0
            assert screen.seen.split()[:30000] == [str(n).encode() for n in range(1, 30001)]


def test_what_runs_at_a_terminal_hears_that_the_client_is_gone(sides: Sides) -> None:
    for side in sides:
        trace = side.remote / "trace"
        command = f"trap 'echo hung up >{trace}; exit' HUP; echo begun; while :; do sleep 0.05; done"
        with side.terminal("-t", "target", command) as screen:
            screen.until("begun")
            screen.process.kill()
        assert until(lambda trace=trace: _text(trace), f"{side.name}: SIGHUP") == "hung up\n"


def test_an_escape_of_the_client_ends_the_session(sides: Sides) -> None:
    for side in sides:
        with side.terminal("target", "-t", "echo begun; cat") as screen:
            screen.until("begun")
            screen.type("\r~.")
            assert screen.ended() == 255


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
