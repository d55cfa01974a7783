"""Requests to the API server: its address and credentials as the `kubernetes` client finds them, its answers as JSON.

The generated classes of that client are passed by: they know no server-side apply of plain manifests, no metadata-only
lists, and build an object of Python for every field. What is used of it is what is hard: kubeconfig files with all
their ways to log in, and the token of a pod, which the kubelet renews.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config as kubernetes_config

from ostiary_operator.kube.kinds import Kind, Manifest

FIELD_MANAGER: Final = "ostiary-operator"
_METADATA: Final = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
_PAGE: Final = 500
"""Objects in one answer to a list."""


class NoCluster(Exception):
    """There is no API server to talk to; the message says what to do."""


class ApiError(Exception):
    """The API server refused; `reason` is its word for programs (`Conflict`, `NotFound`), the text is for people."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason

    @property
    def not_found(self) -> bool:
        """Whether the object (or its kind, or its namespace) is not there."""
        return self.status == 404

    @property
    def conflict(self) -> bool:
        """Whether somebody else was quicker, or owns a field."""
        return self.status == 409

    @property
    def gone(self) -> bool:
        """Whether what was asked for is too old: list again."""
        return self.status == 410 or self.reason in ("Expired", "Gone")


class Access:
    """Where the API server is, and how to prove who we are. Makes sessions for any event loop."""

    def __init__(self, configuration: Any) -> None:
        self._configuration = configuration
        self._context = kubernetes_client.rest.RESTClientObject(configuration).ssl_context

    @classmethod
    async def find(cls, kubeconfig: Path | None = None) -> Access:
        """From the given kubeconfig; else from the pod; else as kubectl finds it. Raises NoCluster."""
        configuration = kubernetes_client.Configuration()
        try:
            if kubeconfig is None:
                try:
                    kubernetes_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
                    return cls(configuration)
                except kubernetes_config.ConfigException:
                    pass
            await kubernetes_config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=None if kubeconfig is None else str(kubeconfig),
                client_configuration=configuration,
                persist_config=False,
            )
        except (kubernetes_config.ConfigException, OSError) as error:
            raise NoCluster(
                f"There is no API server to talk to: {error}. Run in a pod, set KUBECONFIG, or give --kubeconfig FILE."
            ) from error
        return cls(configuration)

    @property
    def server(self) -> str:
        """`https://host:port`."""
        return str(self._configuration.host).rstrip("/")

    async def authorization(self) -> str:
        """The Authorization header of now, or nothing (a client certificate)."""
        found = await self._configuration.get_api_key_with_prefix("BearerToken")
        if not found and self._configuration.username:
            found = self._configuration.get_basic_auth_token()
        return str(found or "")

    def session(self, *more: ClientMiddlewareType) -> aiohttp.ClientSession:
        """A session in the running loop. It asks for the token anew for every request: tokens of pods are renewed."""

        async def authorize(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
            if header := await self.authorization():
                request.headers["Authorization"] = header
            return await handler(request)

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._context),
            headers={"User-Agent": FIELD_MANAGER},
            middlewares=(authorize, *more),
            read_bufsize=2**20,
        )


class Client:
    """Requests to one API server. Raises ApiError, aiohttp.ClientError or TimeoutError."""

    def __init__(
        self, access: Access, *, request_timeout: float = 30.0, connect_timeout: float = 10.0,
        answered: Callable[[str, int], None] = lambda verb, status: None,
    ) -> None:  # fmt: skip
        self._server = access.server
        self._answered = answered
        """Told of every answer: the method (WATCH for a watch) and the HTTP status."""
        self._session = access.session()
        self._timeout = aiohttp.ClientTimeout(total=request_timeout, sock_connect=connect_timeout)
        self._connect_timeout = connect_timeout

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """One request, and its answer's JSON."""
        async with self._session.request(
            method,
            self._server + path,
            params=query,
            data=None if body is None else orjson.dumps(body),
            headers={"Accept": accept, **({} if body is None else {"Content-Type": content_type}), **(headers or {})},
            timeout=self._timeout if timeout is None else aiohttp.ClientTimeout(total=timeout),
        ) as response:
            data = await response.read()
            self._answered(method, response.status)
            if response.status >= 400:
                raise _error(response.status, data)
            return orjson.loads(data) if data else None

    async def get(self, kind: Kind, namespace: str, name: str, *, metadata_only: bool = False) -> Manifest | None:
        """An object; None if there is none."""
        try:
            found: Manifest = await self.request(
                "GET", kind.path(namespace, name), accept=_METADATA.format("") if metadata_only else "application/json"
            )
        except ApiError as error:
            if error.not_found:
                return None
            raise
        return found

    async def list(
        self,
        kind: Kind,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        fresh: bool = True,
    ) -> tuple[list[Manifest], str]:
        """All objects, page by page, and the resourceVersion to watch from. `fresh` False: from the server's cache."""
        accept = _METADATA.format("List") if metadata_only else "application/json"
        query = {"limit": str(_PAGE)} if fresh else {"resourceVersion": "0"}
        query |= _selectors(label_selector, field_selector)
        items: list[Manifest] = []
        while True:
            page = await self.request("GET", kind.path(namespace), query=query, accept=accept)
            items += page.get("items") or ()
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                break
            query["continue"] = metadata["continue"]
        for item in items:
            # Items of a typed list do not say what they are; of a metadata-only list they say PartialObjectMetadata.
            item["apiVersion"], item["kind"] = kind.api_version, kind.kind
        return items, str(metadata.get("resourceVersion", ""))

    @asynccontextmanager
    async def watch(
        self,
        kind: Kind,
        *,
        since: str,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        server_timeout: float = 300.0,
        inactivity_timeout: float = 70.0,
    ) -> AsyncIterator[AsyncIterator[Manifest]]:
        """Events since a resourceVersion, bookmarks among them. Ends by itself; TimeoutError when it goes silent."""
        query = {
            "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": since,
            "timeoutSeconds": str(max(1, int(server_timeout))), **_selectors(label_selector, field_selector),
        }  # fmt: skip
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._connect_timeout, sock_read=inactivity_timeout
        )
        async with self._session.get(
            self._server + kind.path(namespace),
            params=query,
            headers={"Accept": _METADATA.format("") if metadata_only else "application/json"},
            timeout=timeout,
        ) as response:
            self._answered("WATCH", response.status)
            if response.status >= 400:
                raise _error(response.status, await response.read())
            yield _events(response)

    async def apply(self, manifest: Manifest, kind: Kind, *, force: bool) -> Manifest:
        """Server-side apply; returns the object as it is then. Without `force` others' fields are a conflict."""
        metadata = manifest["metadata"]
        applied: Manifest = await self.request(
            "PATCH",
            kind.path(metadata.get("namespace", ""), metadata["name"]),
            query={"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"},
            body=manifest,
            content_type="application/apply-patch+yaml",
        )
        return applied

    async def patch_status(self, kind: Kind, namespace: str, name: str, body: Manifest) -> Manifest:
        """JSON merge patch on the status subresource."""
        patched: Manifest = await self.request(
            "PATCH",
            kind.path(namespace, name, "status"),
            query={"fieldManager": FIELD_MANAGER},
            body=body,
            content_type="application/merge-patch+json",
        )
        return patched

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> bool:
        """Delete exactly that object. False if it is gone, or another one of its name is there."""
        body = {
            "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }  # fmt: skip
        try:
            await self.request("DELETE", kind.path(namespace, name), body=body)
        except ApiError as error:
            if error.not_found or error.conflict:
                return False
            raise
        return True


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    given = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: value for name, value in given.items() if value}


def _error(status: int, data: bytes) -> ApiError:
    try:
        told = orjson.loads(data)
        return ApiError(status, str(told.get("reason", "")), str(told.get("message") or f"HTTP {status}"))
    except (orjson.JSONDecodeError, AttributeError):
        return ApiError(status, "", f"HTTP {status}: {data[:200].decode('utf-8', 'replace')}")


async def _events(response: ClientResponse) -> AsyncIterator[Manifest]:
    """The JSON lines of a watch. A line may be of any length: objects have up to 1.5 MiB and more."""
    rest = bytearray()
    async for chunk in response.content.iter_any():
        rest += chunk
        if b"\n" not in chunk:
            continue
        *lines, tail = bytes(rest).split(b"\n")
        rest = bytearray(tail)
        for line in lines:
            if line.strip():
                event: Manifest = orjson.loads(line)
                yield event
