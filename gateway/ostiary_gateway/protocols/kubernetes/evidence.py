"""What a person is shown of a write: one line that says what it does, and the change as a diff. No I/O.

What the agent may not see, a person is not shown either, since a question is kept and read by many; that it changes is
said. Of Secrets no value is ever shown.
"""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import yaml

from .normal import essential, writes_status
from .questions import Ask
from .resulting import OBJECT, OLD, Resulting

JsonObject = dict[str, object]
Hide = Callable[[JsonObject], JsonObject]
"""Hides in an object what may not be seen (veil.py)."""

CHANGED: Final = " (changed)"
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
MAX_NAMED: Final = 3
"""Changes that the first line names."""
MAX_VALUE: Final = 40
"""Characters of a value in the first line."""
MAX_TEXT: Final = 60_000
"""Characters of the diff."""
MAX_LINES: Final = 4_000
"""Lines of each object that are compared."""
MAX_BRIEF: Final = 200
"""Lines of a change in the record."""
MAX_LISTED: Final = 200
"""Objects that are named, of those that would be deleted."""
_CONTEXT: Final = 3
_NAMED_BY: Final = ("name", "containerPort", "port", "key", "type")
"""What tells the items of a list apart, most often."""
_DOES: Final[Mapping[str, str]] = {
    "create": "create", "update": "update", "patch": "update", "debug": "debug", "delete": "delete", "evict": "evict",
    "token": "issue a token of", "get": "read", "list": "list", "watch": "watch",
}  # fmt: skip
_OPENS: Final[Mapping[str, str]] = {
    "exec": "run in", "attach": "attach to", "portforward": "forward ports of", "proxy": "proxy to",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    """`summary`: its first line says it all as far as one line can. `redacted`: something is not shown."""

    summary: str
    diff: str
    redacted: bool


def shown(ask: Ask, resulting: Resulting, hide: Hide) -> Shown:
    """What a person needs to decide."""
    hiding = _Hiding(hide)
    status = writes_status(ask, resulting)
    old, new = hiding.essential(resulting.old, status), hiding.essential(resulting.object, status)
    if old and new:
        new = _marked(resulting.old, resulting.object, old, new)
    what = subject(ask, resulting)
    if resulting.olds is not None and ask.verb == "deletecollection":
        title, text = _collection(ask, resulting, what)
    elif ask.verb in _DOES and old and new:
        found = list(changes(old, new))
        title = f"{what}: {_named(found)}" if found else f"{_DOES[ask.verb]} {what}: nothing changes"
        text = diff(old, new)
    else:
        title = _title(ask, what)
        text = diff(old or {}, new or {}) if old != new else _dumped(old or {})
    if why := resulting.missing.get(OBJECT):
        text = f"No dry run: {why}.\n{text}"
    if (why := resulting.missing.get(OLD)) and ask.verb != "deletecollection":
        text = f"What is there now is not shown: {why}.\n{text}"
    return Shown(f"{title}\n{ask.text}", _cut(text), hiding.touched)


def brief(ask: Ask, resulting: Resulting, hide: Hide) -> str:
    """The change of an object for the record, one line for each old and new value; empty if there is none to show."""
    if not resulting.old or not resulting.object or ask.verb == "connect":
        return ""
    hiding = _Hiding(hide)
    status = writes_status(ask, resulting)
    old, new = hiding.essential(resulting.old, status), hiding.essential(resulting.object, status)
    assert old is not None
    assert new is not None
    lines: list[str] = []
    for path, was, now in changes(old, _marked(resulting.old, resulting.object, old, new)):
        if len(lines) >= MAX_BRIEF:
            lines.append("… and more")
            break
        lines += [f"{sign}{path}: {_value(value)}" for sign, value in (("-", was), ("+", now)) if value is not None]
    return "\n".join(lines)


def subject(ask: Ask, resulting: Resulting) -> str:
    """`Deployment shop/web`."""
    info = ask.info
    if not info.is_resource:
        return info.path
    document = resulting.object or resulting.old or {}
    kind = document.get("kind")
    name = info.name
    metadata = document.get("metadata")
    if not name and isinstance(metadata, dict):
        # What a dry run makes of generateName is not what the request will.
        generated = metadata.get("generateName")
        name = f"{generated}…" if generated else str(metadata.get("name") or "")
    where = "/".join(filter(None, (info.namespace if info.resource != "namespaces" else "", name)))
    return f"{kind if isinstance(kind, str) and kind else info.resource} {where}".rstrip()


def _title(ask: Ask, what: str) -> str:
    info = ask.info
    if not info.is_resource:
        return f"{ask.request.head.method} {what}"
    if ask.verb == "connect":
        command = ask.facts.get("exec")
        argv = command.get("command") if isinstance(command, dict) else None
        run = f": {' '.join(shlex.join(map(str, argv)).split())}" if argv else ""
        return f"{_OPENS.get(info.subresource, 'connect to')} {what}{run}"
    part = f"/{info.subresource}" if info.subresource and ask.verb in ("create", "update", "patch", "get") else ""
    return f"{_DOES.get(ask.verb, ask.verb)} {what}{part}"


def _collection(ask: Ask, resulting: Resulting, what: str) -> tuple[str, str]:
    names = []
    for each in resulting.olds or ():
        metadata = each.get("metadata")
        found = metadata if isinstance(metadata, dict) else {}
        names.append("/".join(filter(None, (str(found.get("namespace") or ""), str(found.get("name") or "")))))
    count = resulting.affected or 0
    where = f" in {ask.info.namespace}" if ask.info.namespace else " in all namespaces or without one"
    selected = ask.info.label_selector or ask.info.field_selector
    title = f"delete {count:,} {ask.info.resource}{where}{f' ({selected})' if selected else ''}"
    listed = "\n".join(f"-{name}" for name in names[:MAX_LISTED])
    if len(names) > MAX_LISTED:
        listed += f"\n… and {len(names) - MAX_LISTED:,} more"
    return title, listed


# -- what changes


def changes(old: object, new: object, path: str = "") -> Iterator[tuple[str, object, object]]:
    """Path, old and new value of all that differs; None stands for what is not there."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if old.get(key) != new.get(key):
                yield from changes(old.get(key), new.get(key), _joined(path, str(key)))
    elif isinstance(old, list) and isinstance(new, list) and (by := _name_of_items(old, new)):
        olds, news = {each[by]: each for each in old}, {each[by]: each for each in new}
        for name in [*olds, *(name for name in news if name not in olds)]:
            if olds.get(name) != news.get(name):
                yield from changes(olds.get(name), news.get(name), f"{path}[{_value(name)}]")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            if one != other:
                yield from changes(one, other, f"{path}[{index}]")
    elif old != new or type(old) is not type(new):
        yield path, old, new


def _joined(path: str, key: str) -> str:
    plain = key.replace("_", "").replace("-", "").isalnum()
    if plain:
        return f"{path}.{key}" if path else key
    return f"{path}[{json.dumps(key, ensure_ascii=False)}]"


def _name_of_items(old: Sequence[object], new: Sequence[object]) -> str:
    """The key that every item of both lists has a different value of; empty if there is none."""
    items = [each for each in (*old, *new) if isinstance(each, dict)]
    if not items or len(items) != len(old) + len(new):
        return ""
    for key in _NAMED_BY:
        if all(isinstance(each.get(key), (str, int)) for each in items):
            names = [[each[key] for each in side if isinstance(each, dict)] for side in (old, new)]
            if all(len(set(side)) == len(side) for side in names):
                return key
    return ""


def _named(found: list[tuple[str, object, object]]) -> str:
    # What is most often decided on comes first.
    found = sorted(found, key=lambda change: not change[0].startswith("spec"))
    parts = [f"{path or 'all'} {_value(old)} → {_value(new)}" for path, old, new in found[:MAX_NAMED]]
    more = len(found) - MAX_NAMED
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")


def _value(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, (dict, list)):
        return f"{{{len(value)} fields}}" if isinstance(value, dict) else f"[{len(value)} items]"
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split()) if text.split() else text
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"


# -- the diff


def diff(old: JsonObject, new: JsonObject) -> str:
    """Both as YAML, compared line by line."""
    before, after = _lines(old), _lines(new)
    lines = difflib.unified_diff(before, after, "now", "then", lineterm="", n=_CONTEXT)
    return "\n".join(lines)


def _lines(document: JsonObject) -> list[str]:
    if not document:
        return []
    lines = _dumped(document).splitlines()
    if len(lines) > MAX_LINES:
        return [*lines[:MAX_LINES], f"… {len(lines) - MAX_LINES:,} more lines are not compared"]
    return lines


def _dumped(document: JsonObject) -> str:
    if not document:
        return ""
    return yaml.dump(
        document, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=False
    )


_DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def _cut(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]}\n… {len(text) - MAX_TEXT:,} more characters are not shown"


# -- what is not shown


class _Hiding:
    """`touched`: something was hidden."""

    def __init__(self, hide: Hide) -> None:
        self._hide = hide
        self.touched = False

    def essential(self, document: JsonObject | None, status: bool) -> JsonObject | None:
        if not document:
            return None
        kept = essential(document, status)
        metadata = kept.get("metadata")
        if isinstance(metadata, dict) and isinstance(metadata.get("annotations"), dict):
            notes = {key: value for key, value in metadata["annotations"].items() if key != LAST_APPLIED}
            kept["metadata"] = {key: value for key, value in metadata.items() if key != "annotations"}
            if notes:
                kept["metadata"] = {**metadata, "annotations": notes}
        hidden = self._hide(kept)
        self.touched = self.touched or hidden != kept
        return hidden


def _marked(raw_old: object, raw_new: object, old: JsonObject, new: JsonObject) -> JsonObject:
    """`new` as it is shown, with a mark where something changes that looks the same because it is hidden."""
    found = _mark(raw_old, raw_new, old, new)
    assert isinstance(found, dict)
    return found


def _mark(raw_old: object, raw_new: object, old: object, new: object) -> object:
    if isinstance(new, dict) and isinstance(old, dict) and isinstance(raw_old, dict) and isinstance(raw_new, dict):
        return {
            key: _mark(raw_old.get(key), raw_new.get(key), old.get(key), value) if key in old else value
            for key, value in new.items()
        }
    if isinstance(new, list) and isinstance(old, list) and isinstance(raw_old, list) and isinstance(raw_new, list):
        if len(new) == len(old) == len(raw_old) == len(raw_new):
            parts = zip(raw_old, raw_new, old, new, strict=True)
            return [_mark(*part) for part in parts]
        return new
    if old == new and raw_old != raw_new and not isinstance(new, (dict, list)):
        return f"{'' if new is None else new}{CHANGED}"
    return new
