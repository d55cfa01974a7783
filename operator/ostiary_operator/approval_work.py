"""ApprovalRequests taken care of: the status written, closed ones deleted. What is due, `reconcile.approvals` says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from ostiary_operator.kube.client import ApiError
from ostiary_operator.reconcile.approvals import Retention, Settled, Step, is_question, settle, surplus

Manifest = dict[str, Any]

PATH: Final = "/apis/ostiary.dev/v1alpha1/namespaces/{}/approvalrequests/{}"
_SOON: Final = 1.0


class Api(Protocol):
    """Requests to the API server, as `kube.client.Client` makes them. Raises ApiError for what it refuses."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Any: ...


Tell = Callable[[Manifest, Step, str], None]
"""(the request, what became of it, by whom), after it is written."""


class Approving:
    """Call it with an ApprovalRequest whenever it has changed or something is due about it.

    `system_namespace`: where the operator's own one is, which is nobody's question.
    """

    def __init__(
        self,
        api: Api,
        system_namespace: str,
        retention: Retention | None = None,
        *,
        tell: Tell = lambda request, step, by: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api = api
        self._system = system_namespace
        self._retention = retention or Retention()
        self._tell = tell
        self._clock = clock

    async def __call__(self, manifest: Manifest) -> float | None:
        """Does what is due. Seconds until something is due again; None: only when it changes.

        Raises what the API does, except that somebody else was quicker: his change comes as an event of its own.
        """
        if not is_question(manifest, self._system):
            return None
        due = settle(manifest, self._clock(), self._retention)
        if due.delete:
            await self._delete(manifest)
            return None
        if due.status is not None and not await self._write(manifest, due):
            return _SOON
        if due.recheck_at is None:
            return None
        return max(0.0, (due.recheck_at - self._clock()).total_seconds())

    async def sweep(self, manifests: Iterable[Manifest]) -> int:
        """Deletes closed ones that are too many. How many these were."""
        known = {_key(each): each for each in manifests if is_question(each, self._system)}
        beyond = surplus(known.values(), self._clock(), self._retention)
        for key in beyond:
            await self._delete(known[key])
        return len(beyond)

    async def _write(self, manifest: Manifest, due: Settled) -> bool:
        """False if it has changed since it was read: nothing is written then."""
        metadata = manifest["metadata"]
        guard = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        try:
            await self._api.request(
                "PATCH", PATH.format(*_key(manifest)) + "/status", query={"fieldManager": "ostiary-operator"},
                body={"metadata": guard, "status": due.status}, content_type="application/merge-patch+json",
            )  # fmt: skip
        except ApiError as refusal:
            if refusal.not_found or refusal.conflict:
                return False
            raise
        for step, by in due.steps:
            self._tell(manifest, step, by)
        return True

    async def _delete(self, manifest: Manifest) -> None:
        metadata = manifest["metadata"]
        preconditions = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        body = {
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
            "preconditions": preconditions,
        }  # fmt: skip
        try:
            await self._api.request("DELETE", PATH.format(*_key(manifest)), body=body)
        except ApiError as refusal:
            if not (refusal.not_found or refusal.conflict):
                raise


def _key(manifest: Manifest) -> tuple[str, str]:
    return str(manifest["metadata"]["namespace"]), str(manifest["metadata"]["name"])
