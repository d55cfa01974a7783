"""What requests would do, worked out with an API server that the test plays, or with a real one."""

from __future__ import annotations

import base64
import copy
import http.client
import json
import socket
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from support.gateway import TOKEN

from ostiary_gateway.protocols.kubernetes import resulting
from ostiary_gateway.protocols.kubernetes.dry_runs import DryRuns
from ostiary_gateway.protocols.kubernetes.facts import kubernetes_facts, policy_verb
from ostiary_gateway.protocols.kubernetes.questions import Ask, Question, UpstreamAnswer
from ostiary_gateway.protocols.kubernetes.request_info import request_info
from ostiary_gateway.protocols.kubernetes.resulting import EVERYTHING, Resulting
from ostiary_gateway.protocols.kubernetes.wire import Request, RequestHead

JSON = "application/json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"

WEB = "/apis/apps/v1/namespaces/shop/deployments/web"


def asked(method: str, target: str, body: object = None, content_type: str = JSON) -> Ask:
    """A request as the desk has it. A body is bytes, text, or what is sent as JSON."""
    raw = b"" if body is None else body if isinstance(body, bytes) else str(body).encode()
    if body is not None and not isinstance(body, (bytes, str)):
        raw = json.dumps(body).encode()
    headers = [(b"user-agent", b"kubectl/v1.36"), *([(b"content-type", content_type.encode())] if raw else [])]
    info = request_info(method, target.encode())
    request = Request(RequestHead(method, target.encode(), headers), raw)
    facts: dict[str, object] = dict(kubernetes_facts(info, dry_run=info.dry_run))
    return Ask(request, info, policy_verb(info), f"{method} {target}", facts)


def web(replicas: int = 3, version: str = "7", **changes: Any) -> dict[str, Any]:
    """A Deployment."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u-web", "resourceVersion": version, "generation": 4},
        "spec": {
            "replicas": replicas,
            "template": {"spec": {"containers": [{"name": "app", "image": "shop:1"}]}},
        },
        "status": {"readyReplicas": 2},
        **changes,
    }


def status(code: int, reason: str, message: str = "", **more: object) -> tuple[int, dict[str, object]]:
    """An error of an API server."""
    document = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message, **more}
    return code, document


class Talk:
    """A request that is worked out. The test reads what is asked, and tells what the API server answers."""

    def __init__(self, ask: Ask, needs: frozenset[str] = EVERYTHING, known: DryRuns | None = None) -> None:
        self._steps = resulting.work_out(ask, needs, known or DryRuns(), 0.0)
        self.questions: tuple[Question, ...] = ()
        self.done: Resulting | None = None
        self._go(None)

    @property
    def asks(self) -> list[str]:
        """`GET /path` of each question that is open now."""
        return [f"{each.method} {each.target.decode()}" for each in self.questions]

    def told(self, *answers: tuple[int, object]) -> Talk:
        assert len(answers) == len(self.questions)
        self._go(tuple(UpstreamAnswer(code, b"application/json", json.dumps(said).encode()) for code, said in answers))
        return self

    @property
    def result(self) -> Resulting:
        assert self.done is not None, self.asks
        return self.done

    def _go(self, answers: tuple[UpstreamAnswer, ...] | None) -> None:
        try:
            self.questions = next(self._steps) if answers is None else self._steps.send(answers)
        except StopIteration as end:
            self.questions, self.done = (), end.value


@dataclass
class Api:
    """A real API server, asked over one connection as the administrator of a kubeconfig."""

    _connection: http.client.HTTPSConnection
    _headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, kubeconfig: str) -> Api:
        config = yaml.safe_load(Path(kubeconfig).read_text())
        there, who = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=_decoded(there, "certificate-authority-data"))
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as pair:
            pair.write(_decoded(who, "client-certificate-data") + "\n" + _decoded(who, "client-key-data"))
            pair.flush()
            context.load_cert_chain(pair.name)
        url = urlsplit(there["server"])
        assert url.hostname is not None
        return cls(http.client.HTTPSConnection(url.hostname, url.port, context=context, timeout=60))

    @classmethod
    def through(cls, url: str, authorities: Path, token: str = TOKEN) -> Api:
        """A gateway, as an agent."""
        there = urlsplit(url)
        assert there.hostname is not None
        context = ssl.create_default_context(cafile=str(authorities))
        return cls(
            http.client.HTTPSConnection(there.hostname, there.port, context=context, timeout=60),
            {"authorization": f"Bearer {token}"},
        )

    def close(self) -> None:
        self._connection.close()

    def hang_up(self) -> None:
        """Also while another thread waits for an answer: whoever reads keeps a connection open that is only closed."""
        self._connection.sock.shutdown(socket.SHUT_RDWR)

    def raw(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> UpstreamAnswer:
        self._connection.request(method, target, body=body or None, headers={**self._headers, **(headers or {})})
        response = self._connection.getresponse()
        kind = (response.getheader("content-type") or "").encode()
        told = tuple((name.lower().encode(), value.encode("latin-1")) for name, value in response.getheaders())
        return UpstreamAnswer(response.status, kind, response.read(), told)

    def send(self, method: str, target: str, body: object = None, content_type: str = JSON) -> tuple[int, Any]:
        """Status and document."""
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.raw(method, target, raw, {"content-type": content_type, "accept": JSON} if raw else {})
        is_json = answer.content_type.startswith(b"application/json")
        return answer.status, json.loads(answer.body) if is_json else answer.body.decode()

    def ok(self, method: str, target: str, body: object = None, content_type: str = JSON) -> Any:
        code, document = self.send(method, target, body, content_type)
        assert 200 <= code < 300, document
        return document

    def work_out(
        self, ask: Ask, needs: frozenset[str] = EVERYTHING, known: DryRuns | None = None
    ) -> tuple[Resulting, list[str]]:
        """What the request would do, and what was asked for that."""
        steps = resulting.work_out(ask, needs, known or DryRuns(), 0.0)
        asked_for: list[str] = []
        try:
            questions = next(steps)
            while True:
                asked_for += [f"{each.method} {each.target.decode()}" for each in questions]
                questions = steps.send(tuple(self._answer(each) for each in questions))
        except StopIteration as end:
            found = end.value
            assert isinstance(found, Resulting)
            return found, asked_for

    def forward(self, found: Resulting) -> tuple[int, Any]:
        """The request goes on, as the gateway forwards it."""
        head = found.forward.head
        headers = {name.decode(): value.decode() for name, value in head.headers}
        answer = self.raw(head.method, head.target.decode(), found.forward.body, {**headers, "accept": JSON})
        return answer.status, json.loads(answer.body)

    def _answer(self, question: Question) -> UpstreamAnswer:
        headers = {name.decode(): value.decode() for name, value in question.headers}
        return self.raw(question.method, question.target.decode(), question.body, headers)


def _decoded(part: Mapping[str, str], name: str) -> str:
    return base64.b64decode(part[name]).decode()


def changed(document: dict[str, Any], **paths: object) -> dict[str, Any]:
    """A copy with other values: `spec__replicas=5`."""
    made = copy.deepcopy(document)
    for path, value in paths.items():
        *keys, last = path.split("__")
        at = made
        for key in keys:
            at = at.setdefault(key, {})
        at[last] = value
    return made
