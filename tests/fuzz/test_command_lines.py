"""Any command line: facts that hold together, never an exception, and no wrapping that loses a command."""

from __future__ import annotations

import shlex

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import command_lines
from support.fuzzing import Target

from ostiary_gateway.protocols.ssh.commands import CommandLine, command_facts

PROFILE = settings(
    max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def checked(line: str) -> CommandLine:
    found = command_facts(line)
    assert found.opaque == bool(found.reason)
    for each in found.commands:
        assert each.program == each.path.rpartition("/")[2]
        assert not each.argv or each.argv[0] == each.path
        assert all(isinstance(word, str) for word in each.argv)
        assert len(each.via) <= 64
    return found


def run(data: bytes) -> None:
    checked(data.decode("utf-8", "surrogateescape"))


TARGET = Target("command_lines", run, longest=600)


def test_the_corpus_and_its_mutations() -> None:
    TARGET.replay(1500)


BEFORE = (
    "sudo {0}", "sudo -u app -- {0}", "env A=1 {0}", "nice -n 5 {0}", "timeout 5 {0}", "xargs {0}", "doas {0}",
    "find . -exec {0} \\;", "docker exec x {0}", "exec {0}", "command {0}", "setsid {0}", "flock x {0}", "sh -c {1}",
    "bash -c {1}", "eval {1}", "watch {1}", "su -c {1}", "ssh host {1}", "busybox sh -c {1}", "script -c {1}",
    "trap {1} EXIT",
)  # fmt: skip
"""What stands before the words of one command."""
AROUND = (
    "nohup {0} &", "( {0} )", "{{ {0}; }}", "if true; then {0}; fi", "for i in 1; do {0}; done", "true && {0}",
    "false || {0}", "id | {0}", "! {0}", "echo $({0})", "echo \"$({0})\"", "cat <<E{2}\n$({0})\nE{2}\n", "X=$({0})",
    "f() {{ {0}; }}; f", "case a in a) {0};; esac", "while {0}; do id; done", "id > x; {0}", "cat <({0})",
    "echo ${{x:-$({0})}}", "bash <<'E{2}'\n{0}\nE{2}\n", "[[ -n $({0}) ]]", "a=($({0}))", "echo $(( $({0}) ))",
)  # fmt: skip
"""What stands around any text."""
SPELLED = ("rm -rf x", "r\\m -rf x", "/bin/rm -rf x", "rm  -rf\tx")


@PROFILE
@given(
    st.lists(st.sampled_from(BEFORE), max_size=3),
    st.lists(st.sampled_from(AROUND), max_size=3),
    st.sampled_from(SPELLED),
)
def test_no_wrapping_hides_a_command(before: list[str], around: list[str], line: str) -> None:
    """Whatever stands around it, the command is seen, or the line is opaque."""
    for number, each in enumerate(before + around):
        line = each.format(line, shlex.quote(line), number)
    found = checked(line)
    assert found.opaque or any(each.program == "rm" and "-r" in each.flags for each in found.commands), line


@PROFILE
@given(
    st.sampled_from([*command_lines.STRAIGHT, *command_lines.ELSEWHERE]),
    st.sampled_from(["", "id; ", "( id ); ", "\n"]),
)
def test_what_stands_before_a_line_changes_nothing_in_it(line: str, before: str) -> None:
    alone, behind = checked(line), checked(before + line)
    assert behind.opaque == alone.opaque
    assert behind.commands[len(behind.commands) - len(alone.commands) :] == alone.commands


WRAPPINGS = Target("command_wrappings", test_no_wrapping_hides_a_command.hypothesis.fuzz_one_input)
