"""Agents' tokens, kept as their sha256 in Secrets of type `ostiary.dev/token`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from ostiary_api.secret import Secret
from ostiary_policy.facts import SubjectFacts

from .proof import Identity

__all__ = ["MAX_TOKEN", "Identity", "TokenIdentities"]

MAX_TOKEN: Final = 8192
"""Bytes; a longer password is no token."""


class TokenIdentities:
    """Who a token stands for. A token counts only for Connections of the namespace that its Secret is in: whoever may
    write Secrets in one namespace must not become somebody else in another."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._subjects: dict[tuple[str, str], SubjectFacts] = {}
        for secret in secrets:
            if (token := secret.token) is not None:
                self._subjects[secret.metadata.namespace or "default", token.sha256] = SubjectFacts(
                    username=token.username, uid="", groups=list(token.groups), kind="User", namespace="",
                    name=token.username, claims={}, onBehalfOf="",
                )  # fmt: skip

    def find(self, namespace: str, token: str) -> Identity | None:
        """The subject of a token for Connections of a namespace, None if it is not known there."""
        if not token or len(token) > MAX_TOKEN:
            return None
        digest = hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()
        return self.by_digest(namespace, digest)

    def by_digest(self, namespace: str, digest: str) -> Identity | None:
        subject = self._subjects.get((namespace, digest))
        return None if subject is None else Identity(subject, digest)


