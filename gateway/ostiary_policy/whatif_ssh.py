"""What would be allowed of a request over SSH: the changes of one fact that its rules could tell apart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ostiary_policy.answer import Change
from ostiary_policy.policy_set import PolicySet

Try = tuple[Change, Mapping[str, Any]]
"""A change, and the facts of `ssh` with it."""

MAX_COMMANDS = 8
"""Commands of a line that are tried."""
MAX_ELEMENTS = 4
"""Elements of one list of a command that are tried."""

_NUMBER = re.compile(r"(?<![\w.'\"])\d{1,15}(?![\w.'\"])")
_LISTS = ("flags", "redirects", "inputs", "assignments", "substitutions", "via")


def tries(policies: PolicySet, ssh: Mapping[str, Any]) -> Iterator[Try]:
    """Every change, the smaller ones first."""
    reads = policies.reads
    if "ssh.pty" in reads and ssh["pty"] and ssh["kind"] == "exec":
        yield Change(fact="ssh.pty", value=True, equals=False, then="Allow"), {**ssh, "pty": False}
    commands: list[Mapping[str, Any]] = ssh["commands"]
    for index, command in enumerate(commands[:MAX_COMMANDS]):
        yield from _of_command(reads, ssh, index, command)
    if "ssh.env" in reads:
        for name in list(ssh["env"])[:MAX_ELEMENTS]:
            rest = {key: value for key, value in ssh["env"].items() if key != name}
            yield Change(fact="ssh.env", without=name, then="Allow"), {**ssh, "env": rest}
    if len(commands) > 1 and any(path.startswith("ssh.commands") for path in reads):
        for program in dict.fromkeys(command["program"] for command in commands[:MAX_COMMANDS]):
            kept = [command for command in commands if command["program"] != program]
            yield Change(fact="ssh.commands", without=program, then="Allow"), {**ssh, "commands": kept}
    if "ssh.opaque" in reads and ssh["opaque"] and ssh["kind"] in ("exec", "scp"):
        change = Change(fact="ssh.opaque", value=True, equals=False, then="Allow")
        yield change, {**ssh, "opaque": False, "opaqueReason": ""}
    if "ssh.size" in reads and ssh["size"]:
        yield from _sizes(policies, ssh)
    if {"ssh.readOnly", "ssh.operation"} & reads and ssh["kind"] in ("sftp", "scp") and not ssh["readOnly"]:
        change = Change(fact="ssh.readOnly", value=False, equals=True, then="Allow")
        yield change, {**ssh, "readOnly": True, "operation": "read", "target": "", "realTarget": "", "size": 0}


def _of_command(
    reads: frozenset[str], ssh: Mapping[str, Any], index: int, command: Mapping[str, Any]
) -> Iterator[Try]:
    path = f"ssh.commands[{index}]"

    def without(changed: Mapping[str, Any]) -> Mapping[str, Any]:
        others = [*ssh["commands"][:index], {**command, **changed}, *ssh["commands"][index + 1 :]]
        return {**ssh, "commands": others}

    if "ssh.commands.runAs" in reads and command["runAs"]:
        yield Change(fact=f"{path}.runAs", without=command["runAs"], then="Allow"), without({"runAs": "", "via": []})
    if "ssh.commands.exact" in reads and not command["exact"]:
        yield Change(fact=f"{path}.exact", value=False, equals=True, then="Allow"), without({"exact": True})
    for name in _LISTS:
        if f"ssh.commands.{name}" not in reads:
            continue
        for element in command[name][:MAX_ELEMENTS]:
            rest = [item for item in command[name] if item != element]
            yield Change(fact=f"{path}.{name}", without=element, then="Allow"), without({name: rest})


def _sizes(policies: PolicySet, ssh: Mapping[str, Any]) -> Iterator[Try]:
    size = ssh["size"]
    numbers: set[int] = set()
    for policy in policies.policies:
        texts = [rule.expression.text for rule in policy.rules if rule.expression is not None]
        texts += [variable.expression.text for variable in policy.variables]
        numbers.update(int(number) for text in texts for number in _NUMBER.findall(text)[:16])
    limits = {limit for number in numbers for limit in (number, number - 1) if 0 <= limit < size}
    for limit in sorted(limits, reverse=True)[:12]:
        yield Change(fact="ssh.size", value=size, at_most=limit, then="Allow"), {**ssh, "size": limit}
