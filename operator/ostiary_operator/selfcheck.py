"""Whether the answers to approvals can be believed here: the admission policies are there, whole, and do refuse.

Comparing what is there with what should be finds a policy that was weakened. Trying finds the rest: admission switched
off in the API server, a binding that does not bind. All tries are dry runs against one ApprovalRequest of the
operator's own, as a ServiceAccount that has been given the right to try and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from ostiary_api import admission
from ostiary_api.admission import SELFCHECK
from ostiary_operator.approval_work import PATH, Api, Manifest
from ostiary_operator.kube.client import ApiError
from ostiary_operator.observed import Approvals

ACCOUNT: Final = "ostiary-selfcheck"
"""The ServiceAccount, in the system namespace, as which forgeries are tried."""
LABEL: Final = "ostiary.dev/selfcheck"
SECONDS: Final = 30.0
"""For all of it."""

_PLURAL: Final = {
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}
_SOMEBODY: Final = "somebody"
_NOW: Final = "2026-01-01T00:00:00Z"


class Doubt(Exception):
    """Answers could be forged, or it cannot be found out; the message says why, and what to do."""


class SelfCheck:
    """`await run()` when the operator starts to lead, and now and then."""

    def __init__(self, api: Api, system_namespace: str) -> None:
        self._api = api
        self._namespace = system_namespace

    async def run(self) -> Approvals:
        """Never raises for what the API server does: where it cannot be asked, nothing is to be believed."""
        try:
            async with asyncio.timeout(SECONDS):
                await self._check()
        except Doubt as doubt:
            return Approvals(False, f"approvals are switched off, since answers could be forged: {doubt}")
        except Exception as problem:  # noqa: BLE001 - whatever it was, nothing was proven
            said = str(problem) or type(problem).__name__
            return Approvals(False, f"approvals are switched off, since it cannot be checked who answers: {said}")
        return Approvals(True, "")

    async def _check(self) -> None:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        told = await self._api.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=review)
        operator = str(told["status"]["userInfo"]["username"])
        for wanted in admission.manifests(operator):
            await self._compare(wanted)
        await self._canary()
        await self._try_forgeries()

    async def _compare(self, wanted: Manifest) -> None:
        kind, name = wanted["kind"], wanted["metadata"]["name"]
        path = f"/apis/{admission.API}/{_PLURAL[kind]}/{name}"
        try:
            found = await self._api.request("GET", path)
        except ApiError as refusal:
            if refusal.not_found:
                raise Doubt(f"the {kind} {name} is not there; install the chart again (helm upgrade)") from refusal
            raise
        if where := difference(wanted["spec"], found.get("spec") or {}, "spec"):
            raise Doubt(
                f"the {kind} {name} is not as the chart of this operator's version makes it: {where} differs; "
                "helm upgrade puts it back"
            )
        if found["metadata"].get("deletionTimestamp"):
            raise Doubt(f"the {kind} {name} is being deleted")

    async def _canary(self) -> None:
        """The object that forgeries are tried on. It goes with the release: the ServiceAccount owns it."""
        try:
            await self._api.request("GET", self._path())
            return
        except ApiError as refusal:
            if not refusal.not_found:
                raise
        account = await self._api.request(
            "GET", f"/api/v1/namespaces/{self._namespace}/serviceaccounts/{ACCOUNT}"
        )
        owner = {"apiVersion": "v1", "kind": "ServiceAccount", "name": ACCOUNT, "uid": account["metadata"]["uid"]}
        manifest = self._question(SELFCHECK)
        manifest["metadata"]["ownerReferences"] = [owner]
        try:
            await self._api.request("POST", self._path(""), body=manifest)
        except ApiError as refusal:
            if not refusal.conflict:
                raise

    async def _try_forgeries(self) -> None:
        forged = {"approver": _SOMEBODY, "verdict": "Approve"}
        approved = {"type": "Approved", "status": "True", "reason": "Forged", "lastTransitionTime": _NOW}
        used = {**approved, "type": "Consumed"}
        inside = self._question(f"{SELFCHECK}-forged")
        inside["spec"]["decisions"] = [forged]
        forged_answer = {"spec": {"decisions": [forged]}}
        forged_status = {"status": {"conditions": [approved], "grantExpiresAt": _NOW}}
        forged_use = {"status": {"conditions": [approved, used], "consumedAt": _NOW}}
        asks, there, status = self._path(""), self._path(), self._path() + "/status"
        for policy, what, method, path, body in (
            (admission.ASK, "a question that is asked by nobody's gateway", "POST", asks, inside),
            (admission.ANSWER, "an answer under another's name", "PATCH", there, forged_answer),
            (admission.STATUS, "a status that says approved", "PATCH", status, forged_status),
            (admission.STATUS, "a grant used by nobody's gateway", "PATCH", status, forged_use),
            (admission.DELETE, "the deletion of an open question", "DELETE", there, None),
        ):
            await self._refused(policy, what, method, path, body)

    async def _refused(self, policy: str, what: str, method: str, path: str, body: object) -> None:
        """The try must come to admission, and the policy itself must refuse it."""
        if method == "DELETE":
            body = {"apiVersion": "v1", "kind": "DeleteOptions", "dryRun": ["All"]}
        try:
            await self._api.request(
                method, path, query={"dryRun": "All"}, body=body,
                content_type="application/merge-patch+json" if method == "PATCH" else "application/json",
                headers={"Impersonate-User": f"system:serviceaccount:{self._namespace}:{ACCOUNT}"},
            )  # fmt: skip
        except ApiError as refusal:
            said = str(refusal)
            if refusal.status in (403, 422) and f"ValidatingAdmissionPolicy '{policy}'" in said:
                return
            raise Doubt(
                f"it could not be tried whether {policy} refuses {what}: {said}; "
                f"see the roles of {ACCOUNT} in {self._namespace} (helm upgrade)"
            ) from refusal
        raise Doubt(f"the API server takes {what}: {policy} does not act. Is ValidatingAdmissionPolicy switched off?")

    def _path(self, name: str = SELFCHECK) -> str:
        return PATH.format(self._namespace, name).rstrip("/")

    def _question(self, name: str) -> Manifest:
        return {
            "apiVersion": "ostiary.dev/v1alpha1",
            "kind": "ApprovalRequest",
            "metadata": {"name": name, "namespace": self._namespace, "labels": {LABEL: "true"}},
            "spec": {
                "request": {
                    "hash": "0" * 64,
                    "summary": "Nobody asks for this. The operator tries on it, by dry runs, whether forged answers are"
                    " refused.",
                    "title": "(the operator's self-check; not a question)",
                },
                "connectionRef": {"name": SELFCHECK},
                "requester": {"username": "nobody"},
                "approval": {"groups": ["nobody"], "pendingTTL": "168h"},
                "policies": [{"namespace": self._namespace, "name": SELFCHECK, "rule": SELFCHECK, "revision": "none"}],
            },
        }  # fmt: skip


def difference(wanted: object, found: object, path: str) -> str:
    """The first field at which the two differ; empty if they are the same."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key in sorted(wanted.keys() | found.keys()):
            if where := difference(wanted.get(key), found.get(key), f"{path}.{key}"):
                return where
        return ""
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for number, (one, other) in enumerate(zip(wanted, found, strict=True)):
            if where := difference(one, other, f"{path}[{number}]"):
                return where
        return ""
    return "" if wanted == found else path
