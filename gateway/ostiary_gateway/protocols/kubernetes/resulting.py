"""What a request would really do: the API server is asked, by a dry run of the very request and by a GET. No I/O.

`work_out` yields what is to be asked, and ends with the facts and the request to forward: what was dry-run, with the
version of the object that was looked at as its precondition. The traps, each with a test against a real API server: a
DELETE is never dry-run (with a body it ignores the query, and deletes), nor is a TokenRequest (it issues), nor anything
that is not known to have dry runs.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import orjson

from . import bodies, collection, dry_runs, preconditions, scale, urls
from .dry_runs import DryRuns
from .preconditions import UNBORN, Shape, Version
from .questions import Ask, Header, Question, UpstreamAnswer
from .request_info import RequestInfo
from .wire import Request

JsonObject = dict[str, object]
Steps = Generator[tuple[Question, ...], tuple[UpstreamAnswer, ...], "Resulting"]
_Found = tuple[JsonObject | None, dict[str, str]]
"""An object, and of facts that are missing why."""

OBJECT: Final = "k8s.object"
OLD: Final = "k8s.oldObject"
OLDS: Final = "k8s.oldObjects"
AFFECTED: Final = "k8s.affected"
EVERYTHING: Final = frozenset((OBJECT, OLD, OLDS, AFFECTED))

MAX_LOOKS: Final = 5
"""Times that an object is looked at again because it changed meanwhile."""
MAX_OBJECT: Final = 16 << 20
"""Bytes of one object; etcd takes 1.5 MB by default."""
READS: Final = frozenset(("get", "list", "watch"))
"""Verbs that change nothing."""
NOTHING_CHANGES: Final[Mapping[str, object]] = {"object": {}, "oldObject": {}, "oldObjects": [], "affected": 0}
"""The costly facts of what changes nothing."""
_KEPT: Final = frozenset((b"content-type", b"user-agent"))
"""Headers of the request that its dry run needs: the default field manager is made of the User-Agent."""


class Refused(Exception):
    """It will not run. `answer`: the API server's own, that the request itself would get too."""

    def __init__(
        self, status: int, reason: str, message: str, hint: str = "", answer: UpstreamAnswer | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.hint = hint
        self.answer = answer


@dataclass(slots=True)
class Resulting:
    """What a request would bring about.

    `forward` goes upstream in the place of the request; `guarded` if it has our precondition. `object` and `old` as the
    facts of these names, None where they are not known; `olds`: what a deletecollection would delete. `missing` says of
    facts why they are not known.
    """

    forward: Request
    object: JsonObject | None = None
    old: JsonObject | None = None
    olds: tuple[JsonObject, ...] | None = None
    affected: int | None = None
    missing: dict[str, str] = field(default_factory=dict)
    guarded: bool = False

    def facts(self, needs: frozenset[str]) -> JsonObject:
        """Those of the costly facts that are needed and known."""
        known: JsonObject = {OBJECT: self.object, OLD: self.old, AFFECTED: self.affected}
        if OLDS in needs and self.olds is not None:
            known[OLDS] = list(self.olds)
        return {name.partition(".")[2]: known[name] for name in needs if known.get(name) is not None}


def work_out(ask: Ask, needs: frozenset[str], known: DryRuns, now: float = 0.0) -> Steps:
    """Asks for what is needed (names as in Needs.facts). Raises Refused, or WireError for a body that cannot be read.

    `known`: what is known of this API server; `now`: seconds of any clock that goes forward.
    """
    info, request, verb = ask.info, ask.request, ask.verb
    if not info.is_resource or verb in READS or ask.facts.get("readOnly") is True:
        return Resulting(request, {}, {}, (), 0)
    if not needs & {OBJECT, OLD, OLDS} and verb != "deletecollection":
        return Resulting(request, affected=1)
    if verb == "deletecollection":
        return (yield from _collection(info, request, needs))
    case = _Case(info, request, needs, known, now)
    if verb == "connect":
        return (yield from case.connect())
    if verb == "token":
        return (yield from case.token())
    if verb == "delete":
        return (yield from case.delete())
    if verb == "evict":
        return (yield from case.evict())
    if info.verb in ("create", "update", "patch"):
        return (yield from case.write())
    return Resulting(request, missing=dict.fromkeys(needs, f"what {request.head.method} does here is not known"))


def drifted(resulting: Resulting, status: int, body: bytes) -> bool:
    """Whether the forwarded request failed because of our precondition: the object is another by now."""
    if not resulting.guarded or status not in (409, 422):
        return False
    if status == 422:
        # That a test of a JSON patch failed is all that it says: what would be the matter otherwise, a dry run shows.
        return bodies.media_type(resulting.forward.head.get(b"content-type")) == bodies.JSON_PATCH
    said = _document(body)
    details = said.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    managers = any(isinstance(each, dict) and each.get("reason") == "FieldManagerConflict" for each in causes or ())
    return said.get("reason") == "Conflict" and not managers


@dataclass(slots=True)
class _Case:
    info: RequestInfo
    request: Request
    needs: frozenset[str]
    known: DryRuns
    now: float

    # -- requests that are about an object as it is

    def connect(self) -> Steps:
        """exec, attach, portforward, proxy: both objects are the one that is connected to."""
        name = urls.proxied(self.info.name) if self.info.subresource == "proxy" else self.info.name
        if not name or self.info.verb == "proxy":
            return Resulting(self.request, missing=dict.fromkeys(self.needs, "the path names no object"))
        old, missing = yield from self._get(name)
        return Resulting(self.request, old, old, _olds(old), 1, missing)

    def token(self) -> Steps:
        """A dry run would issue one too."""
        old, missing = yield from self._get()
        return Resulting(self.request, {}, old, _olds(old), 1, missing)

    def delete(self) -> Steps:
        old, missing = yield from self._get()
        made = Resulting(self.request, {}, old, _olds(old), 1, missing)
        if (version := Version.of(old or {})) is None:
            return made
        head = self.request.head
        if self.request.body:
            options = bodies.delete_options(self.request.body, head.get(b"content-type"))
            self._check_own(options.get("preconditions"), version)
            body = preconditions.read(self.request.body, head.get(b"content-type"), Shape.OPTIONS)
            made.forward = replace(self.request, body=body.guarded(version))
        else:
            # Options are read from the query then, and of a parameter the first counts.
            own = {name: self.info.value(name) for name in ("uid", "resourceVersion")}
            self._check_own(own, version)
            path, _, query = head.target.partition(b"?")
            pairs = [("resourceVersion", version.resource_version), *([("uid", version.uid)] if version.uid else [])]
            target = urls.with_query(path, pairs) + (b"&" + query if query else b"")
            made.forward = replace(self.request, head=replace(head, target=target))
        made.guarded = True
        return made

    def evict(self) -> Steps:
        old, missing = yield from self._get()
        made = Resulting(self.request, {}, old, _olds(old), 1, missing)
        if (version := Version.of(old or {})) is not None:
            head = self.request.head
            kind = head.get(b"content-type")
            options = preconditions.eviction_options(self.request.body, kind)
            self._check_own(options.get("preconditions"), version)
            made.forward = replace(
                self.request, body=preconditions.read(self.request.body, kind, Shape.EVICTION).guarded(version)
            )
            made.guarded = True
        return made

    def _check_own(self, own: object, version: Version) -> None:
        """The client's own precondition must hold for what was looked at; ours is put in its place."""
        if not isinstance(own, Mapping):
            return
        for name, value in (("resourceVersion", version.resource_version), ("uid", version.uid)):
            if own.get(name) and own[name] != value:
                info = self.info
                of = f"{info.resource}.{info.group}" if info.group else info.resource
                raise Refused(
                    409, "Conflict",
                    f'Operation cannot be fulfilled on {of} "{info.name}": the precondition {name} {own[name]} '
                    f"does not hold, it is {value}.",
                    "Get the object again.",
                )  # fmt: skip

    def _get(self, name: str = "") -> Generator[tuple[Question, ...], tuple[UpstreamAnswer, ...], _Found]:
        """The object that exists, and what is missing if it cannot be had. Raises Refused if there is none."""
        if not self.needs & {OBJECT, OLD, OLDS}:
            return None, {}
        (answer,) = yield (self._question_of_old(name),)
        if answer.status == 404:
            raise _own(answer)
        return self._old(answer)

    # -- requests that bring about an object

    def write(self) -> Steps:
        info, needs = self.info, self.needs
        creates = info.verb == "create" and not info.subresource
        wants_new, wants_old = OBJECT in needs, bool(needs & {OLD, OLDS})
        head = self.request.head
        body = preconditions.read(self.request.body, head.get(b"content-type")) if self.request.body else None
        plain = replace(self.request, body=body.plain()) if body is not None else self.request
        made = Resulting(plain, affected=1)
        if creates:
            made.old, made.olds = {}, ()
            if not wants_new:
                return made
        scales = info.subresource == "scale"
        asks_old = not creates and (wants_old or (scales and wants_new))
        why = (yield from dry_runs.has_dry_run(info, head.method, self.known, self.now)) if wants_new else ""
        asks_new = wants_new and not why
        if why:
            made.missing[OBJECT] = why
        path = (yield from self._replicas_path(made)) if scales and asks_new else None
        for _ in range(MAX_LOOKS):
            questions = [self._question_of_old()] if asks_old else []
            if asks_new:
                questions.append(self._dry_run(plain))
            if not questions:
                return made
            answers = yield tuple(questions)
            if self._take(made, body, answers, asks_old, asks_new, path):
                return made
        raise Refused(
            409, "Conflict", f"{info.resource} {info.name} changes all the time, so that nobody can decide on it.",
            "Try again later.",
        )  # fmt: skip

    def _take(
        self, made: Resulting, body: preconditions.Body | None, answers: tuple[UpstreamAnswer, ...], asks_old: bool,
        asks_new: bool, path: tuple[str, ...] | None,
    ) -> bool:  # fmt: skip
        """Fills in what the answers say. False if they are of different versions of the object."""
        info = self.info
        got = answers[0] if asks_old else None
        dry = answers[-1] if asks_new else None
        born = got is not None and got.status == 404
        result: JsonObject | None = None
        if dry is not None:
            if dry.status == 404 and got is not None and got.status == 200:
                return False
            result = self._result(dry, made)
            if result is not None and dry.status == 201 and info.verb in ("update", "patch"):
                if got is not None and got.status == 200:
                    return False
                born = True
        elif got is not None and born and not self._may_create():
            raise _own(got)
        if born:
            made.old, made.olds = {}, ()
        elif got is not None:
            made.old, missing = self._old(got)
            made.missing.update(missing)
            made.olds = _olds(made.old)
        old_version = Version.of(made.old or {})
        new_version = Version.of(result or {}) if not born else None
        if old_version is not None and new_version is not None and not _same(old_version, new_version):
            kinds = {(each or {}).get("kind") for each in (made.old, result)}
            if info.subresource in ("", "scale") or len(kinds) == 1:
                return False
            new_version = None  # what another subresource answers with may be an object of its own
        made.object = self._object(made, result, path) if result is not None else None
        if info.verb == "create" or body is None:
            return True
        if born:
            made.forward = replace(made.forward, body=body.guarded(Version(UNBORN)))
            made.guarded = True
        elif (version := new_version if result is not None else old_version) is not None:
            made.forward = replace(made.forward, body=body.guarded(version))
            made.guarded = True
        return True

    def _may_create(self) -> bool:
        if self.info.subresource:
            return False
        kind = bodies.media_type(self.request.head.get(b"content-type"))
        return self.info.verb == "update" or kind == bodies.APPLY_PATCH

    def _result(self, dry: UpstreamAnswer, made: Resulting) -> JsonObject | None:
        """The dry run's object. Raises Refused with the API server's own error."""
        if not 200 <= dry.status < 300:
            if (why := dry_runs.unsupported(dry.status, dry.body)) is None:
                raise _own(dry)
            made.missing[OBJECT] = why
            return None
        found = _document(dry.body)
        if not found or (found.get("kind"), found.get("apiVersion")) == ("Status", "v1"):
            # A binding is answered so: that it would go well, and nothing of the pod.
            made.missing[OBJECT] = "the API server's answer to the dry run is no object"
            return None
        return found

    def _object(self, made: Resulting, result: JsonObject, path: tuple[str, ...] | None) -> JsonObject | None:
        if self.info.subresource != "scale":
            return result
        replicas = scale.replicas_of(result)
        if path is None or replicas is None or not made.old:
            made.missing.setdefault(OBJECT, "which object is scaled to how many replicas cannot be told")
            return None
        try:
            return scale.with_replicas(made.old, path, replicas)
        except ValueError as problem:
            made.missing[OBJECT] = str(problem)
            return None

    def _replicas_path(
        self, made: Resulting
    ) -> Generator[tuple[Question, ...], tuple[UpstreamAnswer, ...], tuple[str, ...] | None]:
        info = self.info
        if (info.group, info.resource) in scale.BUILT_IN:
            return scale.REPLICAS
        (answer,) = yield (Question("GET", urls.definition(info), self._headers(), limit=MAX_OBJECT),)
        path = scale.path_of(_document(answer.body), info.version) if answer.status == 200 else None
        if path is None:
            made.missing[OBJECT] = (
                f"which field /scale sets cannot be told: the CustomResourceDefinition {info.resource}.{info.group} "
                f"cannot be read ({answer.status}). Let the gateway's account at the API server get it"
                if answer.status != 200
                else f"the CustomResourceDefinition {info.resource}.{info.group} says nothing of a scale"
            )
        return path

    # -- questions

    def _question_of_old(self, name: str = "") -> Question:
        return Question("GET", urls.parent(self.info, name), self._headers(), limit=MAX_OBJECT)

    def _dry_run(self, plain: Request) -> Question:
        head = plain.head
        kept = tuple(pair for pair in head.headers if pair[0] in _KEPT)
        return Question(
            head.method, urls.dry_run(head.target), (*kept, (b"accept", b"application/json")), plain.body,
            limit=MAX_OBJECT,
        )  # fmt: skip

    def _headers(self) -> tuple[Header, ...]:
        return ((b"accept", b"application/json"),)

    def _old(self, answer: UpstreamAnswer) -> _Found:
        if answer.status == 200 and (found := _document(answer.body)):
            return found, {}
        told = _document(answer.body).get("message")
        why = f"it cannot be read: {told or f'status {answer.status}'}"
        return None, dict.fromkeys((OLD, OLDS), why)


def _collection(info: RequestInfo, request: Request, needs: frozenset[str]) -> Steps:
    headers = tuple(pair for pair in request.head.headers if pair[0] == b"user-agent")
    found = yield from collection.listed(info, headers, whole=OLDS in needs)
    if found.answer is not None:
        raise _own(found.answer)
    if found.problem:
        return Resulting(request, {}, missing=dict.fromkeys((OLDS, AFFECTED), found.problem))
    made = Resulting(request, {}, olds=found.objects, affected=len(found.objects))
    made.forward = collection.pinned(info, request, found.version)
    made.missing[OLD] = "it would be several objects: k8s.oldObjects has them"
    return made


def _same(old: Version, new: Version) -> bool:
    return old.resource_version == new.resource_version and (not new.uid or old.uid == new.uid)


def _olds(old: JsonObject | None) -> tuple[JsonObject, ...] | None:
    return None if old is None else (old,) if old else ()


def _own(answer: UpstreamAnswer) -> Refused:
    told = _document(answer.body)
    reason, message = told.get("reason"), told.get("message")
    return Refused(
        answer.status,
        reason if isinstance(reason, str) else "",
        message if isinstance(message, str) else "",
        "",
        answer,
    )


def _document(body: bytes) -> JsonObject:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
