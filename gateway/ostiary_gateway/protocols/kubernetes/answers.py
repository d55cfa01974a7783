"""What the gateway itself answers: `Status` documents, with sentences for people and a line of JSON for agents. No I/O.

Source: Kubernetes API conventions, "Response Status Kind". kubectl prints `message`; clients look at `reason`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import orjson

from ostiary_policy.answer import VERSION, Answer, Do, Next, Reason
from ostiary_policy.answer_size import line

from .questions import Header, Reply
from .wire import encode_response_head

REQUEST_HEADER: Final = b"ostiary-request"
"""Every response names the record of its request in this header."""
RETRY_AFTER: Final = 5
"""Seconds after which a client that was turned away may try again."""

Cause = tuple[str, str]
"""Reason and message of a `StatusCause`."""

_MEANS: Final[Mapping[str, tuple[Reason, Do]]] = {
    "BadRequest": (Reason.PROTOCOL, "Change"),
    "Conflict": (Reason.NOT_KNOWN, "RetryLater"),
    "Expired": (Reason.SESSION, "Reconnect"),
    "Forbidden": (Reason.PROTOCOL, "Change"),
    "InternalError": (Reason.NOT_KNOWN, "RetryLater"),
    "Invalid": (Reason.PROTOCOL, "Change"),
    "MethodNotAllowed": (Reason.PROTOCOL, "Change"),
    "NotAcceptable": (Reason.PROTOCOL, "Change"),
    "RequestEntityTooLarge": (Reason.LIMIT, "Change"),
    "ServiceUnavailable": (Reason.TARGET, "RetryLater"),
    "TooManyRequests": (Reason.LIMIT, "RetryLater"),
    "Unauthorized": (Reason.LOGIN, "Reconnect"),
    "UnsupportedMediaType": (Reason.PROTOCOL, "Change"),
}
"""What a reason of Kubernetes means to an agent, unless something more exact is known."""


def status(code: int, reason: str, message: str, causes: Iterable[Cause] = (), *, retry_after: int = 0) -> bytes:
    """A `Status` of failure, as JSON."""
    details: dict[str, object] = {}
    if found := [{"reason": name, "message": text} for name, text in causes if text]:
        details["causes"] = found
    if retry_after:
        details["retryAfterSeconds"] = retry_after
    document: dict[str, object] = {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason,
    }  # fmt: skip
    if details:
        document["details"] = details
    document["code"] = code
    return orjson.dumps(document)


def refused(
    code: int, reason: str, message: str, hint: str = "", *, record: str = "", means: Reason | None = None,
    retry_after: int = 0, close: bool = False,
) -> Reply:  # fmt: skip
    """What is refused without asking a policy. `record`: the id of its record, if there is one."""
    found, do = _MEANS.get(reason, (Reason.PROTOCOL, "Change"))
    answer = line(
        Answer(
            version=VERSION, decision="Deny", reason=means or found, request=record, message=message,
            next=Next(do=do, hint=hint),
        )
    )  # fmt: skip
    causes = [("OstiaryHint", hint), ("OstiaryRecord", record), ("OstiaryAnswer", answer)]
    headers: list[Header] = [(b"retry-after", b"%d" % retry_after)] if retry_after else []
    body = status(code, reason, sentence(message, hint=hint, record=record), causes, retry_after=retry_after)
    return Reply(code, body, tuple(headers), close=close)


def denied(message: str, answer: str, hint: str, *, rule: str, record: str, approval: str = "") -> Reply:
    """What the policies refused. `answer` is the line of JSON; `rule` is empty where none decided."""
    causes = [
        ("OstiaryRule", rule), ("OstiaryHint", hint), ("OstiaryApproval", approval), ("OstiaryRecord", record),
        ("OstiaryAnswer", answer),
    ]  # fmt: skip
    # Where the policy has words of its own, the decision has put the rule behind them.
    named = "" if rule in message else rule
    return Reply(403, status(403, "Forbidden", sentence(message, rule=named, hint=hint, record=record), causes))


def sentence(message: str, *, rule: str = "", hint: str = "", record: str = "") -> str:
    """All that a person needs in one line: clients print nothing of a Status but its message."""
    parts = [message.rstrip()]
    if rule:
        parts.append(f"(rule {rule})")
    if hint:
        parts.append(hint.strip())
    if record:
        parts.append(f"[{record}]")
    return " ".join(parts)


def encoded(reply: Reply, record: str, *, close: bool) -> list[bytes]:
    """A response for the client: its head, and its body."""
    headers = [(b"content-type", reply.content_type), *reply.headers]
    if record:
        headers.append((REQUEST_HEADER, record.encode()))
    phrase = _PHRASES.get(reply.status, b"")
    return [encode_response_head(reply.status, phrase, headers, length=len(reply.body), close=close), reply.body]


_PHRASES: Final = {
    400: b"Bad Request", 401: b"Unauthorized", 403: b"Forbidden", 405: b"Method Not Allowed", 409: b"Conflict",
    413: b"Content Too Large", 415: b"Unsupported Media Type", 417: b"Expectation Failed",
    422: b"Unprocessable Content", 429: b"Too Many Requests", 431: b"Request Header Fields Too Large",
    500: b"Internal Server Error", 502: b"Bad Gateway", 503: b"Service Unavailable", 505: b"HTTP Version Not Supported",
}  # fmt: skip
