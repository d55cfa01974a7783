"""Programs and arguments that stand where something else seems to be."""

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


@pytest.mark.parametrize(
    "line",
    [
        "x=(a)cat rm -rf /etc", "x+=(a)ls rm y", "x=()ls rm y", "x=(a)'ls' rm y", "x=(a)\\\nls rm y", "x=(a)<(ls) rm y",
        "export x=(a)ls rm y", 'x=(a)"ls" rm y', "x=(a)$y rm y", "A=1 x=(a)ls rm y",
    ],
)  # fmt: skip
def test_a_word_that_adheres_to_a_list_is_not_taken_for_the_program(line: str) -> None:
    """Bash runs the word behind it: rm."""
    assert command_facts(line).opaque


def test_a_list_ends_where_a_blank_or_an_operator_stands() -> None:
    for line in ("x=(a b) ls", "x=(a b); ls", "x=(a)&& ls", "x=(a)|ls", "(x=(a)); ls", "x=(a)\nls"):
        found = command_facts(line)
        assert not found.opaque, (line, found.reason)
        assert found.commands[-1].program == "ls"
