"""Command lines and their facts: written down, compared with a real Bash, bounded, and the same on every way."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import command_lines
from support.command_transcript import transcript
from support.shell_oracle import STUBS, Shell, shell

from ostiary_gateway.protocols.ssh import command_sight, commands
from ostiary_gateway.protocols.ssh.command_reader import Reader
from ostiary_gateway.protocols.ssh.command_reader_words import MAX_COMMANDS, Book, Unreadable
from ostiary_gateway.protocols.ssh.commands import CommandLine, command_facts

TRANSCRIPTS = Path(__file__).parent / "command_lines.txt"
WRITTEN = {
    each.partition("\n  ")[0]: each for each in TRANSCRIPTS.read_text("utf-8").rstrip("\n").split("\n\n") if each
}
LINES = [*command_lines.STRAIGHT, *command_lines.BRANCHES, *command_lines.ELSEWHERE, *command_lines.OPAQUE]


@pytest.mark.parametrize("line", LINES)
def test_the_facts_of_a_line_are_as_written_down(line: str) -> None:
    found = transcript(line)
    assert found == WRITTEN.get(found.partition("\n  ")[0])


def test_nothing_else_is_written_down() -> None:
    assert set(WRITTEN) == {transcript(line).partition("\n  ")[0] for line in LINES}


@pytest.mark.parametrize("line", command_lines.OPAQUE)
def test_what_text_cannot_tell_is_opaque(line: str) -> None:
    assert command_facts(line).opaque


@pytest.fixture(scope="module")
def oracle() -> Iterator[Shell]:
    with shell() as ready:
        yield ready


def _called(found: CommandLine, call: list[str]) -> bool:
    return any(
        each.program == call[0] and (not each.exact or list(each.argv[1:]) == call[1:]) for each in found.commands
    )


@pytest.mark.parametrize("line", [*command_lines.STRAIGHT, *command_lines.BRANCHES])
def test_bash_calls_what_the_facts_say(oracle: Shell, line: str) -> None:
    found = command_facts(line)
    assert not found.opaque, found.reason
    calls = oracle.run(line)
    for call in calls:
        assert _called(found, call), call
    if line in command_lines.STRAIGHT:
        expected = {(each.program, *each.argv[1:]) for each in found.commands if each.exact and each.program in STUBS}
        assert expected <= set(map(tuple, calls))


@pytest.mark.skipif(shutil.which("dash") is None, reason="no dash")
@pytest.mark.parametrize("line", [*command_lines.STRAIGHT, *command_lines.BRANCHES])
def test_dash_calls_no_program_that_the_facts_do_not_name(oracle: Shell, line: str) -> None:
    """A login shell may be another: what it makes of a line may be an error, but never another program."""
    programs = {each.program for each in command_facts(line).commands}
    assert {call[0] for call in oracle.run(line, "dash")} <= programs


PLAIN = st.text("ab/.-_=:@%+,^09", min_size=1, max_size=6)
QUOTED = st.builds("{0}{1}{0}".format, st.sampled_from("'\""), st.text("ab/.-_=:@%+,^ 09", max_size=6))
SEPARATED = st.sampled_from([" ", " ", " ", " | ", " ; ", " && ", " || ", "; ", " > ", " 2>&1 ", " >", "|", "\t"])


@settings(max_examples=600, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(PLAIN | QUOTED, SEPARATED), min_size=1, max_size=8))
def test_the_quick_way_leads_to_the_same_facts(pieces: list[tuple[str, str]]) -> None:
    """A second opinion is not asked for where it was never another one."""
    line = "".join(word + after for word, after in pieces).rstrip(" ;|&>")
    quick = commands._facts(line)
    before = command_sight._SURE
    command_sight._SURE = re.compile(r"(?!)")
    try:
        full = commands._facts(line)
    finally:
        command_sight._SURE = before
    assert quick == full


PIECES = [
    *"ab $`'\"\\{}()[]<>|&;#~*?!=-\n\t0:/.,",
    *(
        "$(",
        "${",
        "$((",
        "))",
        "<<",
        "<<E\n",
        "\nE\n",
        "if ",
        "then ",
        "fi",
        "do ",
        "done",
        "case ",
        "esac",
        " in ",
        ";;",
    ),
    *(
        "$'",
        "sudo ",
        "sh -c ",
        "eval ",
        "xargs ",
        "time ",
        "coproc ",
        "function ",
        "f() ",
        "&>",
        "[[ ",
        " ]]",
        "<(",
        "2>",
    ),
]
ODD = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


@settings(max_examples=1500, deadline=None, derandomize=True, database=None)
@given(ODD | st.text(max_size=40))
def test_any_text_has_facts(line: str) -> None:
    found = command_facts(line)
    assert found == commands._facts(line)
    assert found.opaque == bool(found.reason)
    for each in found.commands:
        assert each.program == each.path.rpartition("/")[2]
        assert each.argv[:1] == ((each.path,) if each.argv else ())


LONG = {
    "substitutions": "$(" * 16_000,
    "closed substitutions": "$(" * 10_000 + ")" * 10_000,
    "brackets": "(" * 32_000,
    "arithmetic": "$((" * 10_000,
    "parameters": "${x:-" * 6_000,
    "quotes": '"$(' * 10_000,
    "backticks": "`" * 32_000,
    "escaped backticks": "`\\`" * 10_000,
    "braces": "{a," * 10_000,
    "closed braces": "{a,b}" * 6_000,
    "nested braces": "{a,{b," * 5_000 + "}" * 10_000,
    "a long sequence": "echo {1..999999999}",
    "many sequences": "echo " + "{1..200}" * 500,
    "wrappers": "sudo " * 6_000 + "id",
    "environments": "env " * 8_000 + "id",
    "assignments": "A=1 " * 8_000 + "id",
    "commands": "id;" * 10_000,
    "redirections": "id " + ">a " * 10_000,
    "redirected groups": "{ " * 20 + "id;" * 400 + "} >a;" * 20,
    "many redirections of a group": "{ " + "id;" * 400 + "} " + ">a " * 5_000,
    "here-documents": "cat " + "<<E " * 8_000 + "\n",
    "here-documents with bodies": "cat " + "<<E " * 2_000 + "\n" + "E\n" * 2_000,
    "shells": 'sh -c "' * 4_000,
    "evaluations": "eval " * 6_000 + "id",
    "if": "if " * 10_000,
    "case": "case x in " * 3_000,
    "functions": "f() { " * 5_000,
    "not": "! " * 16_000 + "id",
    "time": "time " * 6_000 + "id",
    "find": "find . " + "-exec id ; " * 2_900,
    "spaces": " " * 32_000 + "id",
    "continued": "\\\n" * 16_000 + "id",
    "a word": "a" * 32_000,
    "dollars": "$" * 32_000,
    "sed": "sed '" + "s/a/b/;" * 4_000 + "'",
    "a wrong sed": "sed '" + "/a" * 10_000 + "'",
    "stars": "*" * 32_000,
    "subscripts": "a[" * 16_000,
    "ansi": "$'" + "\\x41" * 8_000 + "'",
    "subscripts in a text": "ls '" + "a[a[" * 8_000 + "'",
    "prints": "awk '" + "print " * 5_000 + "'",
    "many quotes": "ls " + "'a' " * 8_000 + "$",
    "one too long": "x" * 40_000,
}


@pytest.mark.parametrize("name", LONG)
def test_the_work_is_bounded(name: str) -> None:
    line = LONG[name]
    book = Book()
    try:
        Reader(line, book).read()
    except Unreadable:
        pass
    assert book.steps <= 2 * len(line) + 1000
    found = command_facts(line)
    assert len(found.commands) <= 2 * MAX_COMMANDS + 64
    assert sum(len(each.argv) for each in found.commands) <= 40 * len(line)


def test_a_line_that_is_too_long_is_opaque() -> None:
    assert command_facts("a" * (commands.LONGEST + 1)) == CommandLine((), True, "longer than what is looked at")
    assert not command_facts("a" * commands.LONGEST).opaque


def test_each_caller_gets_values_of_its_own() -> None:
    first, second = command_facts("rm -rf /x").facts(), command_facts("rm -rf /x").facts()
    assert first == second
    first[0]["argv"] = []
    assert command_facts("rm -rf /x").facts() == second


def test_every_line_is_tricky_in_its_own_way() -> None:
    assert len(LINES) >= 300
    assert max(Counter(LINES).values()) == 1
