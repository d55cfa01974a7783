"""People told of ApprovalRequests, beside the work on each; what was told is in its status, for the next leader."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Protocol

from ostiary_api.approval import ToldReceiver
from ostiary_notify.notifier import Notifier
from ostiary_operator.approval_work import PATH, Api
from ostiary_operator.kube.client import ApiError
from ostiary_operator.reconcile.approvals import is_question, read

Manifest = dict[str, Any]

_SOON: Final = 1.0


class Work(Protocol):
    """What else is done about ApprovalRequests (`approval_work.Approving`)."""

    async def __call__(self, manifest: Manifest) -> float | None: ...

    async def sweep(self, manifests: Iterable[Manifest]) -> int: ...


class Notifying:
    """The same work, and then whoever has to be told is told."""

    def __init__(self, work: Work, notifier: Notifier, api: Api, system_namespace: str) -> None:
        self._work = work
        self._notifier = notifier
        self._api = api
        self._system = system_namespace

    async def __call__(self, manifest: Manifest) -> float | None:
        """Raises what the work does, or the API: it is tried again then, and nothing is told twice."""
        again = await self._work(manifest)
        if not is_question(manifest, self._system) or manifest["metadata"].get("deletionTimestamp"):
            return again
        request = read(manifest)
        if request is None:
            return again
        told = self._notifier.look(request)
        if told is None or await self._write(manifest, told):
            return again
        return _SOON if again is None else min(_SOON, again)

    async def sweep(self, manifests: Iterable[Manifest]) -> int:
        return await self._work.sweep(manifests)

    async def _write(self, manifest: Manifest, told: tuple[ToldReceiver, ...]) -> bool:
        """False if it has changed since it was read: it is looked at again, as it is then."""
        metadata = manifest["metadata"]
        status = {"told": [each.model_dump(mode="json", by_alias=True) for each in told]}
        try:
            await self._api.request(
                "PATCH", PATH.format(metadata["namespace"], metadata["name"]) + "/status",
                query={"fieldManager": "ostiary-operator"},
                body={"metadata": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]},
                      "status": status},
                content_type="application/merge-patch+json",
            )  # fmt: skip
        except ApiError as refusal:
            if refusal.not_found or refusal.conflict:
                return False
            raise
        return True
