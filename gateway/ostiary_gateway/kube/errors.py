"""What may come of a request to the API server besides its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MAX_MESSAGE: Final = 1024
"""Characters that are kept of what a server says."""


class KubeError(Exception):
    """The API server did not do it. The message says why."""


class ConfigError(KubeError):
    """It is not known where the API server is, or how to log in there."""


class Unreachable(KubeError):
    """There was no answer. `sent`: the request may have come to the server all the same."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason out of a Status: a field, and what is wrong with it."""

    field: str
    reason: str
    message: str


class ApiError(KubeError):
    """The server has refused (a Status object).

    `status`: HTTP status. `reason`: one word, such as NotFound, Conflict, Invalid, Forbidden. `retry_after`: seconds.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message[:MAX_MESSAGE] or reason or f"status {status}")
        self.status = status
        self.reason = reason
        self.details: Mapping[str, Any] = details or {}
        self.retry_after = retry_after

    @property
    def message(self) -> str:
        return str(self)

    @property
    def causes(self) -> tuple[Cause, ...]:
        """What is wrong with which field, as far as the server says so."""
        found = self.details.get("causes")
        return tuple(
            Cause(str(each.get("field", "")), str(each.get("reason", "")), str(each.get("message", "")))
            for each in (found if isinstance(found, list) else ())
            if isinstance(each, dict)
        )

    @property
    def not_found(self) -> bool:
        return self.status == 404

    @property
    def conflict(self) -> bool:
        """Somebody else has changed it: the resourceVersion is old."""
        return self.reason == "Conflict"

    @property
    def already_exists(self) -> bool:
        return self.reason == "AlreadyExists"

    @property
    def forbidden(self) -> bool:
        return self.status == 403

    @property
    def expired(self) -> bool:
        """The server does not know so old a resourceVersion any more: list again."""
        return self.status == 410 or self.reason in ("Expired", "Gone")

    @classmethod
    def of(cls, status: int, body: object, retry_after: float | None = None) -> ApiError:
        """From an answer's status and its JSON, whatever that is."""
        if not isinstance(body, dict) or body.get("kind") != "Status":
            return cls(status, "", f"the API server answers with status {status}", retry_after=retry_after)
        details = body.get("details")
        code = body.get("code")
        return cls(
            code if isinstance(code, int) else status,
            str(body.get("reason") or ""),
            str(body.get("message") or ""),
            details=details if isinstance(details, dict) else None,
            retry_after=retry_after,
        )
