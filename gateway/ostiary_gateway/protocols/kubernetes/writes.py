"""Masked values that come back: a write that would put a mask's text in the place of what it hides is refused.

And JSON patches that read what is masked (`copy`, `move`, `test`), since their result would show it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ostiary_gateway.masking.json_walk import State
from ostiary_gateway.masking.selection import Selection
from ostiary_gateway.masking.strategies import MaskError
from ostiary_policy.masking import MaskPlan, Strategy

from .bodies import parse_yaml
from .editing import decode
from .targets import Mark, Shape, object_targets, shape_of
from .wire import WireError

if TYPE_CHECKING:
    from .request_info import RequestInfo
    from .wire import Request

HINT: Final = "Send only what you mean to change, for instance as a patch, and leave out what is masked for you."
_READS: Final = frozenset({"copy", "move", "test"})
_PSEUDONYM: Final = r"[a-z2-7]{26}"
_HIDDEN_RUN: Final = 5
"""So many of a Partial's characters in a row are taken for a mask inside of a text."""
_TOO_DEEP: Final = "It has too many levels in one another to be checked for masked values."


class MaskedValueReturned(Exception):
    """A write carries what a mask put in the place of a value, or reads what is masked.

    `path`: where in the body, as a JSON path. `message` says what is wrong, `hint` what to do.
    """

    def __init__(self, path: str, message: str, hint: str = HINT) -> None:
        super().__init__(message)
        self.path = path
        self.message = message
        self.hint = hint


class _Members(list[tuple[str, object]]):
    """An object as it is written: a name may stand twice."""


@dataclass(frozen=True, slots=True)
class _Check:
    """What a plan means for writes to one kind of URL."""

    selection: Selection
    whole: re.Pattern[str]
    """A value that is a mask's text."""
    partials: tuple[Strategy, ...]
    inside: re.Pattern[str] | None
    """What detectors leave inside of a text."""
    literals: tuple[bytes, ...]
    """Texts of masks, for bodies that cannot be read."""
    anywhere: tuple[re.Pattern[str], ...]
    """The same for what has no fixed text."""


@lru_cache(maxsize=256)
def _check_for(plan: MaskPlan, shape: Shape) -> _Check:
    targets = object_targets(plan, shape)
    strategies = [*(mask.strategy for mask in plan.json_paths), *(mask.strategy for mask in plan.detectors)]
    texts = {each.replacement for each in strategies if each.type == "Redact"}
    whole = [re.escape(text) for text in texts if text]
    if any(each.type == "Pseudonym" for each in strategies):
        whole.append(_PSEUDONYM)
    inside = [found for mask in plan.detectors if (found := _left_inside(mask.strategy))]
    anywhere = {found for each in strategies if each.type != "Redact" and (found := _left_inside(each))}
    partials = tuple(each for each in strategies if each.type == "Partial")
    literals = [text.encode() for text in texts if text]
    return _Check(
        Selection(targets, loose=True),
        re.compile("|".join(whole) or r"(?!)"),
        partials,
        re.compile("|".join(inside)) if inside else None,
        tuple(literals + [base64.b64encode(text) for text in literals]),
        tuple(re.compile(each) for each in sorted(anywhere)),
    )


def _left_inside(strategy: Strategy) -> str:
    match strategy.type:
        case "Redact":
            return re.escape(strategy.replacement)
        case "Pseudonym":
            return rf"(?<![A-Za-z0-9]){_PSEUDONYM}(?![A-Za-z0-9])"
        case "Partial":
            char = re.escape(strategy.char)
            # A card keeps its spaces and dashes; `* * * * *` is no card.
            # Only from where a run begins, and no further than it goes: else it is looked at again from each character.
            begins = rf"(?<!{char})(?<!{char}[ -])"
            return rf"{begins}(?=(?:{char}[ -]?)*?{char}{{3}}){char}(?:[ -]?{char}){{{_HIDDEN_RUN - 1},}}"
        case _:
            return ""


def check_write(plan: MaskPlan, info: RequestInfo, request: Request) -> None:
    """Raises MaskedValueReturned if the body of a write must not go upstream while these masks are in force."""
    if not (plan.json_paths or plan.detectors) or not request.body:
        return
    if info.verb not in ("create", "update", "patch"):
        return
    try:
        check = _check_for(plan, shape_of(info))
    except MaskError as error:
        message = f"A mask cannot be applied: {error}."
        raise MaskedValueReturned("$", message, "Ask for the policy to be put right.") from None
    content_type = (request.head.get(b"content-type") or b"").partition(b";")[0].strip().lower()
    replaces = info.verb == "update" or content_type.startswith(b"application/apply-patch")
    checker = _Checker(plan, check, replaces=replaces)
    try:
        if content_type.endswith(b"protobuf"):
            checker.unread(request.body)
        elif content_type == b"application/json-patch+json":
            checker.patch(_read(request.body))
        else:
            checker.check(_read(request.body), check.selection.root, "$")
    except RecursionError:
        raise MaskedValueReturned("$", _TOO_DEEP, "Send it with fewer levels.") from None


def _read(body: bytes) -> object:
    """JSON with every member of its objects, or else YAML."""
    try:
        found: object = json.loads(body, object_pairs_hook=_Members)
        return found
    except ValueError:
        pass
    try:
        return _as_members(parse_yaml(body))
    except WireError:
        raise MaskedValueReturned(
            "$", "The body cannot be read, so it cannot be checked for masked values.", "Send JSON."
        ) from None


def _as_members(value: object) -> object:
    match value:
        case dict():
            return _Members((str(key), _as_members(each)) for key, each in value.items())
        case list():
            return [_as_members(each) for each in value]
        case _:
            return value


class _Checker:
    def __init__(self, plan: MaskPlan, check: _Check, *, replaces: bool) -> None:
        self._plan = plan
        self._check = check
        self._selection = check.selection
        self._replaces = replaces
        """What is null in the body will be null."""

    def check(self, value: object, state: State, path: str) -> None:
        """A value and all below it."""
        masked = any(isinstance(tag, Strategy) for tag in state.tags) and Mark.KEEP not in state.tags
        if masked:
            self._below(value, path)
            return
        match value:
            case _Members():
                for name, each in value:
                    if self._check.inside is not None:
                        self._text(name, f"{path}.{name}", is_bytes=False)
                    self.check(each, self._selection.child(state, _utf8(name)), _member(path, name))
            case list():
                for index, each in enumerate(value):
                    self.check(each, self._selection.child(state, index), f"{path}[{index}]")
            case str():
                if Mark.APPLIED in state.tags or Mark.ANNOTATION in state.tags:
                    self._annotation(value, path)
                self._text(value, path, is_bytes=Mark.BYTES in state.tags)

    def patch(self, operations: object) -> None:
        """A JSON patch (RFC 6902)."""
        if not isinstance(operations, list) or not all(isinstance(each, _Members) for each in operations):
            raise MaskedValueReturned("$", "The body is no JSON patch.", "Send an array of operations.")
        for number, each in enumerate(operations):
            members = dict(each)
            if len(members) != len(each):
                raise MaskedValueReturned(f"$[{number}]", "A member stands twice in one operation.", "Send it once.")
            kind, pointer, source = members.get("op"), members.get("path"), members.get("from")
            for read in (pointer if kind == "test" else None, source if kind in _READS else None):
                if isinstance(read, str) and self._may_read(read):
                    raise MaskedValueReturned(
                        _shown(read),
                        f"The JSON patch would {kind} what is masked for you, {_shown(read)}.",
                        "Use add, replace or remove, with values of your own.",
                    )
            if "value" in members:
                state, masked = self._at(pointer if isinstance(pointer, str) else "")
                path = _shown(pointer) if isinstance(pointer, str) else "$"
                if masked:
                    self._below(members["value"], path)
                else:
                    self.check(members["value"], state, path)

    def unread(self, body: bytes) -> None:
        """A body whose members are not known, as protobuf."""
        for literal in self._check.literals:
            if literal in body:
                self._refuse("$", f"the text {literal.decode('utf-8', 'replace')!r}")
        text = body.decode("latin-1")
        for pattern in self._check.anywhere:
            if (found := pattern.search(text)) is not None:
                self._refuse("$", f"the text {found.group()!r}")

    # -- parts

    def _may_read(self, pointer: str) -> bool:
        state, masked = self._at(pointer)
        if masked or not self._plan.json_paths or Mark.KEEP in state.tags:
            return masked
        marks = (Mark.APPLIED, Mark.ANNOTATION, Mark.MANAGED)
        return any(isinstance(tag, Strategy) or tag in marks for tag in self._selection.below(state))

    def _at(self, pointer: str) -> tuple[State, bool]:
        """The state of what a JSON pointer names, and whether it is masked or inside of what is."""
        state = self._selection.root
        for token in pointer.split("/")[1:]:
            state = self._selection.after(state, _utf8(_unescaped(token)))
            if any(isinstance(tag, Strategy) for tag in state.tags) and Mark.KEEP not in state.tags:
                return state, True
        return state, False

    def _below(self, value: object, path: str) -> None:
        """All of a masked value."""
        match value:
            case _Members():
                for name, each in value:
                    self._below(each, _member(path, name))
            case list():
                for index, each in enumerate(value):
                    self._below(each, f"{path}[{index}]")
            case str():
                for text in _readings(value):
                    if self._is_mask(text):
                        self._refuse(path, f"the text {text!r}")
                self._text(value, path, is_bytes=True)
            case None if self._replaces and not path.endswith(".creationTimestamp"):
                self._refuse(path, "null")

    def _is_mask(self, text: str) -> bool:
        return self._check.whole.fullmatch(text) is not None or any(
            _may_be_partial(each, text) for each in self._check.partials
        )

    def _text(self, value: str, path: str, *, is_bytes: bool) -> None:
        inside = self._check.inside
        if inside is None:
            return
        for text in _readings(value) if is_bytes else (value,):
            found = inside.search(text)
            if found is not None:
                self._refuse(path, f"the text {found.group()!r}")

    def _annotation(self, value: str, path: str) -> None:
        if not value.lstrip().startswith("{"):
            return
        try:
            held = json.loads(value, object_pairs_hook=_Members)
        except ValueError:
            return
        self.check(held, self._selection.root, path)

    def _refuse(self, path: str, what: str) -> None:
        raise MaskedValueReturned(
            path, f"{path} is masked for you, and the request would write {what}, which a mask put there."
        )


def _readings(value: str) -> Iterator[str]:
    """A text, and what it is as base64."""
    yield value
    decoded = decode(value.encode("utf-8", "surrogatepass")) if value else None
    if decoded:
        yield decoded.decode("utf-8", "surrogateescape")


def _may_be_partial(strategy: Strategy, text: str) -> bool:
    first, last = strategy.keep_first, strategy.keep_last
    if not text:
        return False
    if set(text) == {strategy.char}:
        return True
    middle = text[first : len(text) - last]
    return len(text) > first + last and set(middle) == {strategy.char}


def _member(path: str, name: str) -> str:
    return f"{path}.{name}" if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f"{path}[{name!r}]"


def _shown(pointer: str) -> str:
    path = "$"
    for token in pointer.split("/")[1:]:
        path = _member(path, _unescaped(token))
    return path


def _unescaped(token: str) -> str:
    """RFC 6901, section 4."""
    return token.replace("~1", "/").replace("~0", "~")


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
