"""What every way to prove an identity shares: the Identity that comes out, the refusal, and which names are nobody's.

No I/O. The names of subjects never meet across their sources: tokens of Secrets may not use a name that an issuer's
prefix, Kubernetes (`system:`) or SPIFFE (`spiffe:`) begins; an issuer's names all begin with its prefix; those of
ServiceAccounts come from the API server, and begin with `system:serviceaccount:`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from ostiary_policy.facts import SubjectFacts

Method = Literal["token", "serviceAccount", "oidc", "mtls"]
RefusalKind = Literal["token", "jwt", "issuer", "review", "certificate"]
"""Wrong token or JWT, the issuer's keys cannot be had, the API server cannot review a token, wrong certificate. Words
of the metrics, too."""

MAX_USERNAME: Final = 512
MAX_GROUP: Final = 256
MAX_GROUPS: Final = 256


@dataclass(frozen=True, slots=True)
class Identity:
    """A proven subject.

    `credential` names what proved it, never the credential itself: with it an authenticator finds out whether it still
    holds when the configuration has changed. `expires`: when that proof ends, seconds since the epoch; None for never.
    `certificate` names the client certificate that was shown as well. `shown` is what the record keeps of it all.
    """

    subject: SubjectFacts
    credential: str
    method: Method = "token"
    expires: float | None = None
    certificate: str = ""
    shown: tuple[tuple[str, str], ...] = ()


class LoginRefused(Exception):
    """Nobody was proven. `reason` is for the record, `message` and `hint` for who asked; no part of a secret is in any.

    `message` is a clause that begins the sentence, without its end: the protocol adds the id of the record.
    """

    def __init__(self, kind: RefusalKind, reason: str, message: str, hint: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.message = message
        self.hint = hint


def is_name(text: object, longest: int) -> bool:
    """Whether this can name somebody: printable text that neither begins nor ends with a space."""
    return isinstance(text, str) and 0 < len(text) <= longest and text.isprintable() and text == text.strip()


def bounded(text: object, longest: int = 120) -> str:
    """Something that a stranger wrote, fit for a message or a record: one printable line of bounded length."""
    shown = text if isinstance(text, str) else type(text).__name__
    shown = "".join(character if character.isprintable() else "?" for character in shown[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"
