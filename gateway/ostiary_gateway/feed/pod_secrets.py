"""The Secrets of a gateway pod: fetched by name, again when the bundle names another version. In memory only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from pydantic import ValidationError

from ostiary_api.bundle_feed import SecretVersion
from ostiary_api.problems import explain
from ostiary_api.secret import TOKEN_TYPE, Secret
from ostiary_gateway.kube.client import KubeClient
from ostiary_gateway.kube.errors import ApiError, KubeError
from ostiary_gateway.kube.resources import SECRETS, Object, metadata
from ostiary_gateway.logging import get_logger

log = get_logger(__name__)

TIMEOUT: Final = 3.0
"""Seconds for all that a bundle needs: policies must not wait longer for Secrets. What is missing is tried again."""
MOST: Final = 8
"""Requests at one time."""

Key = tuple[str, str]
"""Namespace and name."""


class PodSecrets:
    """`data` is what there is, `missing` what could not be had, and why."""

    def __init__(self, kube: KubeClient) -> None:
        self.data: dict[Key, Secret] = {}
        self.missing: dict[Key, str] = {}
        self._kube = kube
        self._versions: dict[Key, SecretVersion] = {}
        """As the bundle named them when they were fetched."""

    async def bring(self, wanted: Iterable[SecretVersion]) -> bool:
        """Fetches what is new, lets go of what is not wanted any more. Whether anything is different now."""
        asked = {(each.namespace, each.name): each for each in wanted}
        before, missing_before = dict(self.data), dict(self.missing)
        for key in [key for key in self.data.keys() | self.missing.keys() if key not in asked]:
            self._forget(key)
        new = [each for key, each in asked.items() if self._versions.get(key) != each]
        room = asyncio.Semaphore(MOST)

        async def fetch(each: SecretVersion) -> None:
            async with room:
                await self._fetch(each)

        await asyncio.gather(*map(fetch, new))
        return self.data != before or self.missing != missing_before

    async def _fetch(self, wanted: SecretVersion) -> None:
        key = wanted.namespace, wanted.name
        try:
            found = await self._kube.get(SECRETS, *key, timeout=TIMEOUT)
        except KubeError as problem:
            self._miss(key, _reason(problem))
            return
        try:
            self.data[key] = _secret(found, key)
        except ValidationError as error:
            _, message = explain(error, Secret, secret=True)[0]
            self._forget(key)
            self._miss(key, f"it cannot be used: {message}")
            return
        self._versions[key] = wanted
        self.missing.pop(key, None)

    def _miss(self, key: Key, reason: str) -> None:
        old = self.data.get(key)
        if old is not None and old.type == TOKEN_TYPE:
            # Another version means that the token was changed or taken back: the old one must not open anything.
            self._forget(key)
        if self.missing.get(key) != reason:
            log.warning("secret cannot be had", secret="/".join(key), problem=reason)
        self.missing[key] = reason

    def _forget(self, key: Key) -> None:
        for known in (self.data, self.missing, self._versions):
            known.pop(key, None)


def _reason(problem: KubeError) -> str:
    if isinstance(problem, ApiError) and problem.not_found:
        return "it does not exist"
    if isinstance(problem, ApiError) and problem.forbidden:
        return "the gateway may not read it yet; the operator gives it the right"
    return str(problem)


def _secret(found: Object, key: Key) -> Secret:
    named = {"namespace": key[0], "name": key[1], "resourceVersion": str(metadata(found).get("resourceVersion", ""))}
    return Secret.model_validate(
        {"metadata": named, "type": found.get("type", "Opaque"), "data": found.get("data") or {}}
    )
