"""Two rules against everything that a line may hide in: no `rm -r`, and nothing but what is listed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from support.command_evasions import EVASIONS
from support.shell_oracle import Shell, shell

from ostiary_gateway.protocols.ssh.commands import CommandFacts, CommandLine, command_facts

RECURSIVE = ("-r", "-R", "--recursive")
USUAL = ("systemctl status nginx", "sudo systemctl restart nginx", "journalctl -u nginx --since today | tail -n 5")


@pytest.fixture(scope="module")
def oracle() -> Iterator[Shell]:
    with shell() as ready:
        yield ready


def deleting(found: CommandLine) -> bool:
    """The rule: opaque, or an `rm` whose arguments are not known, or with a flag to go down."""
    return found.opaque or any(
        each.program == "rm" and (not each.exact or any(flag in each.flags for flag in RECURSIVE))
        for each in found.commands
    )


def listed(each: CommandFacts) -> bool:
    if not each.exact or each.redirects or each.path != each.program:
        return False
    if each.program == "systemctl":
        return len(each.argv) == 3 and each.argv[1] in ("status", "restart")
    return each.program in ("journalctl", "tail", "sudo")


def allowed(found: CommandLine) -> bool:
    return not found.opaque and all(map(listed, found.commands))


def goes_down(call: list[str]) -> bool:
    return call[0] == "rm" and any(
        word in RECURSIVE or (word[:1] == "-" and word[:2] != "--" and ("r" in word or "R" in word))
        for word in call[1:]
    )


@pytest.mark.parametrize("program", ["bash", "dash"])
@pytest.mark.parametrize("line", EVASIONS)
def test_no_way_leads_past_a_rule(oracle: Shell, line: str, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"no {program}")
    found = command_facts(line)
    calls = oracle.run(line, program)
    if any(map(goes_down, calls)):
        assert deleting(found), found
        assert not allowed(found)
    if not found.opaque:
        assert {call[0] for call in calls} <= {each.program for each in found.commands}


@pytest.mark.parametrize("line", USUAL)
def test_what_is_usual_is_allowed(line: str) -> None:
    assert allowed(command_facts(line))
    assert not deleting(command_facts(line))


def test_most_ways_do_what_they_try() -> None:
    assert len(EVASIONS) > 250
