"""The facts of a recorded request, made anew from what the record has. No target is asked.

What only a target knew then (a view's columns, an object before a change) is not there; what stands in for it is named,
so that nobody takes a guess for a fact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from ostiary_api.units import format_timestamp
from ostiary_gateway.protocols.kubernetes.facts import kubernetes_facts
from ostiary_gateway.protocols.kubernetes.request_info import request_info
from ostiary_gateway.protocols.kubernetes.resulting import NOTHING_CHANGES, READS
from ostiary_gateway.protocols.kubernetes.wire import WireError
from ostiary_gateway.protocols.postgres.offline import sql_facts
from ostiary_gateway.protocols.ssh import facts as ssh
from ostiary_gateway.protocols.ssh.questions import Question
from ostiary_policy.facts import ClientFacts, ConnectionFacts, RequestFacts, SubjectFacts
from ostiary_store.replay.columns import settle_columns
from ostiary_store.replay.recorded import Json, Recorded, mapping

_CUT: Final = "…"
_FOUND_OUT: Final = ("object", "oldObject", "oldObjects", "affected")
_NO_COMMAND: Final = "(an empty command)"

CANNOT_KNOW: Final = frozenset(("request.session.rowsWritten", "sql.inTransaction"))
"""Facts that the record does not have, and that are taken for zero and false."""


class NotRebuilt(ValueError):
    """The record does not have what the facts are made of; it says what is missing."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """`facts`: the value of the protocol's variable. `assumed`: paths of facts that stand for what is not known."""

    facts: Mapping[str, object]
    assumed: frozenset[str] = frozenset()


def protocol_facts(recorded: Recorded) -> Rebuilt:
    """Raises NotRebuilt."""
    try:
        match recorded.protocol:
            case "Postgres":
                return _sql(recorded)
            case "Kubernetes":
                return _kubernetes(recorded)
            case "SSH":
                return _ssh(recorded)
    except NotRebuilt:
        raise
    except (ValueError, WireError) as problem:
        raise NotRebuilt(f"the facts cannot be made from its text: {problem}") from None
    raise NotRebuilt(f"requests of protocol {recorded.protocol} are not replayed")


def request_facts(recorded: Recorded, connection: ConnectionFacts) -> RequestFacts:
    """`request`: as it was then, through the Connection as it is now."""
    requests, rows, size = recorded.before
    subject, client = recorded.subject, recorded.client
    return {
        "time": _time(recorded.begun),
        "connection": connection,
        "subject": subject_facts(subject),
        "client": ClientFacts(address=_text(client, "address"), application=_text(client, "application")),
        "session": {
            "id": recorded.session_id,
            "startedAt": _time(recorded.opened),
            "requests": requests,
            "rowsRead": rows,
            "bytesRead": size,
            "rowsWritten": 0,
        },
    }


def subject_facts(subject: Json) -> SubjectFacts:
    """`request.subject`, as the session's opening was recorded."""
    groups = subject.get("groups")
    return SubjectFacts(
        username=_text(subject, "username"),
        uid=_text(subject, "uid"),
        groups=[str(each) for each in groups] if isinstance(groups, (list, tuple)) else [],
        kind=_text(subject, "kind") or "User",
        namespace=_text(subject, "namespace"),
        name=_text(subject, "name") or _text(subject, "username"),
        claims=dict(mapping(subject.get("claims"))),
        onBehalfOf=_text(subject, "onBehalfOf"),
    )


def _sql(recorded: Recorded) -> Rebuilt:
    session, detail = recorded.session, recorded.detail
    given = detail.get("parameters")
    params = [None if each is None else str(each) for each in given] if isinstance(given, list) else []
    user = _text(session, "upstreamRole") or _text(session, "upstreamUser")
    facts = sql_facts(recorded.text, database=_text(session, "database"), user=user, params=params)
    if isinstance(rows := detail.get("estimatedRows"), int):
        facts["estimatedRows"] = rows
    # A session may have gone elsewhere since it opened; nothing here follows SET ROLE and search_path.
    assumed = {"sql.inTransaction"}
    if settle_columns(facts):
        assumed.add("sql.statements.relations.columns")
    if any(each is not None and _CUT in each for each in params) or ("statement" in detail and given is None):
        assumed.add("sql.params")
    return Rebuilt(dict(facts), frozenset(assumed))


def _kubernetes(recorded: Recorded) -> Rebuilt:
    method, _, target = recorded.text.partition(" ")
    if target.endswith(_CUT):
        raise NotRebuilt("its URL is longer than the record keeps")
    detail = recorded.detail
    info = request_info(method, target.encode())
    facts: dict[str, object] = dict(kubernetes_facts(info, dry_run=bool(detail.get("dryRun"))))
    verb = str(facts["verb"])
    if facts["readOnly"] or verb in READS or not info.is_resource:
        facts.update(NOTHING_CHANGES)
        return Rebuilt(facts)
    if noted := mapping(detail.get("facts")):
        # As the gateway found them out then, masked as the agent may see them.
        facts.update({name: noted[name] for name in _FOUND_OUT if name in noted})
        return Rebuilt(facts)
    assumed = set()
    if verb != "deletecollection":
        facts["affected"] = 1
    if verb in ("delete", "evict", "token"):
        facts["object"] = {}
    if verb == "create" and not info.subresource:
        facts.update(oldObject={}, oldObjects=[])
    body = detail.get("body")
    if verb in ("create", "update") and not info.subresource and isinstance(body, dict):
        # As it was sent: what the API server fills in is not there.
        facts["object"] = body
        assumed.add("k8s.object")
    return Rebuilt(facts, frozenset(assumed))


def _ssh(recorded: Recorded) -> Rebuilt:
    question = _question(recorded.text, recorded.detail)
    facts = ssh.whole(question, _text(recorded.session, "login"))
    for name in ("realPath", "realTarget"):
        if found := recorded.detail.get(name):
            facts[name] = found
    return Rebuilt(facts)


def _question(text: str, detail: Json) -> Question:
    kind, operation = _text(detail, "kind"), _text(detail, "operation")
    env = {str(name): str(value) for name, value in mapping(detail.get("env")).items()}
    if kind in ("exec", "scp") and text.endswith(_CUT):
        raise NotRebuilt("its command line is longer than the record keeps")
    command = b"" if text == _NO_COMMAND else text.encode()
    match kind:
        case "exec":
            return ssh.exec_question(command, pty=bool(detail.get("pty")), env=env)
        case "shell":
            return ssh.shell_question(pty=bool(detail.get("pty")), env=env)
        case "subsystem":
            return ssh.subsystem_question(text.removeprefix("subsystem ").encode(), env=env)
        case "sftp" if operation == "session":
            return ssh.subsystem_question(b"sftp", env=env)
        case "scp" if operation == "session":
            return ssh.scp_question(command, env=env)
        case "sftp" | "scp":
            size = detail.get("size")
            question = ssh.file_question(
                kind, operation, _text(detail, "path"), target=_text(detail, "target"),
                size=size if isinstance(size, int) else 0,
            )  # fmt: skip
            question.facts["env"] = env
            return question
        case "forward":
            host, port, path = _destination(_text(detail, "destination"))
            direction: Literal["local", "remote"] = "remote" if detail.get("direction") == "remote" else "local"
            return ssh.forward_question(direction, host=host, port=port, path=path)
        case "agent":
            return ssh.agent_question()
        case "x11":
            return ssh.x11_question()
        case "env":
            name, _, value = text.removeprefix("env ").partition("=")
            return ssh.env_question(name.encode(), value.encode(), env=env)
    raise NotRebuilt(f"its kind is {kind!r}, which is not replayed")


def _destination(text: str) -> tuple[str, int, str]:
    """Host, port and path, of `db:5432`, `[::1]:80` or the path of a socket."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal():
        return "", 0, text
    return host.removeprefix("[").removesuffix("]"), int(port), ""


def _text(fields: Json, name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _time(at: float) -> str:
    return format_timestamp(datetime.fromtimestamp(at, UTC))
