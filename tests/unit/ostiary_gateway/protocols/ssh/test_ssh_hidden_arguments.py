"""Arguments that a wrapper gives to what it runs, where they look like its own."""

from __future__ import annotations

import pytest

from ostiary_gateway.protocols.ssh.commands import command_facts


@pytest.mark.parametrize(
    "line",
    [
        'env -S"tee /tmp/x" -a /etc/passwd',
        'env -S "cat ok" -u /etc/shadow',
        "env '-Scat ok' --help",
        "env --split-string='cat ok' -C /etc",
        'env -S"cat ok" -- -x',
        'env -S"cat" - x',
        'sudo env -S"tee /tmp/x" -a /etc/passwd',
    ],
)
def test_what_stands_behind_a_text_that_env_splits_is_not_taken_for_its_options(line: str) -> None:
    assert command_facts(line).opaque


def test_words_behind_that_text_are_arguments_of_its_program() -> None:
    found = command_facts('env -i -S"cat ok" x -n')
    assert not found.opaque
    assert [command.argv for command in found.commands if command.program == "cat"] == [("cat", "ok", "x", "-n")]
