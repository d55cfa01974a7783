"""The DETAIL of every refusal: one line of JSON that an agent can act on (ostiary_policy/answer.py). No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ostiary_policy.answer import VERSION, Answer, Do, Next, Reason
from ostiary_policy.answer_size import line

_REFUSALS: Final[Mapping[str, tuple[Reason, Do]]] = {
    "0A000": (Reason.PROTOCOL, "Change"),
    "22021": (Reason.ENCODING, "Change"),
    "42501": (Reason.PINNED, "Change"),
    "53400": (Reason.LIMIT, "RetryLater"),
    "54000": (Reason.LIMIT, "Change"),
    "55000": (Reason.CURSOR, "Change"),
    "58000": (Reason.NOT_KNOWN, "RetryLater"),
    "58030": (Reason.RECORD, "RetryLater"),
}
"""What is refused without asking a policy, by SQLSTATE. Anything else are the server's own words."""

_LOGINS: Final[Mapping[str, tuple[Reason, Do]]] = {
    "08001": (Reason.TARGET, "RetryLater"),
    "08P01": (Reason.PROTOCOL, "Reconnect"),
    "0A000": (Reason.PROTOCOL, "Reconnect"),
    "22023": (Reason.SETTING, "Reconnect"),
    "28000": (Reason.LOGIN, "Reconnect"),
    "28P01": (Reason.LOGIN, "AskAdministrator"),
    "3D000": (Reason.SETTING, "Reconnect"),
    "42501": (Reason.SETTING, "Reconnect"),
    "53300": (Reason.LIMIT, "RetryLater"),
    "57P01": (Reason.SESSION, "Reconnect"),
    "57P03": (Reason.LOGIN, "RetryLater"),
}
_ENDS: Final[Mapping[str, tuple[Reason, Do]]] = {
    "08006": (Reason.TARGET, "Reconnect"),
    "08P01": (Reason.PROTOCOL, "Reconnect"),
    "42501": (Reason.PINNED, "Reconnect"),
    "54000": (Reason.LIMIT, "Reconnect"),
}


def refused(
    request: str, code: str, message: str, hint: str, *, reason: Reason | None = None, in_transaction: bool = False
) -> str:
    """The detail of what was refused without asking a policy. `request`: the id of its record, if there is one."""
    found, do = _REFUSALS.get(code, (Reason.STATEMENT, "Change"))
    return _plain(reason or found, do, request, message, hint, rollback=in_transaction)


def login(code: str, message: str, hint: str, record: str) -> str:
    """The detail for a client that is not let in."""
    return _plain(*_LOGINS.get(code, (Reason.LOGIN, "Reconnect")), record, message, hint)


def ended(code: str, message: str, hint: str, session: str) -> str:
    """The detail of a FATAL error that ends a session."""
    return _plain(*_ENDS.get(code, (Reason.SESSION, "Reconnect")), session, message, hint)


def _plain(reason: Reason, do: Do, request: str, message: str, hint: str, *, rollback: bool = False) -> str:
    following = Next(do=do, hint=hint, rollback=rollback)
    return line(
        Answer(version=VERSION, decision="Deny", reason=reason, request=request, message=message, next=following)
    )
