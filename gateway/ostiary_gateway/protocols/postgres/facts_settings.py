"""SET, RESET and set_config: the settings that change, and those that must never change."""

from __future__ import annotations

from .facts_walk import Tree, Walk, constant, handles


def pin(walk: Walk, reason: str) -> None:
    """Refuse this statement under any policy."""
    walk.draft.static.setdefault("pinned", reason)


_TRUE = frozenset(("on", "true", "tru", "tr", "t", "yes", "ye", "y", "1"))
_UTF8 = frozenset(("utf8", "unicode"))


def check_pinned(walk: Walk, setting: str, values: list[str | None] | None) -> None:
    """Refuse what would change how SQL is read: standard_conforming_strings off, client_encoding other than UTF8."""
    if setting == "standard_conforming_strings":
        if values is None or len(values) != 1 or values[0] is None or values[0].strip().lower() not in _TRUE:
            pin(walk, "standard_conforming_strings must stay on: the gateway reads SQL with it")
    elif setting == "client_encoding":
        name = values[0] if values is not None and len(values) == 1 else None
        if name is None or "".join(filter(str.isalnum, name.lower())) not in _UTF8:
            pin(walk, "client_encoding must stay UTF8: the gateway reads SQL with it")


@handles("VariableSetStmt")
def set_variable(walk: Walk, body: Tree) -> None:
    setting(walk, body, lasting=False)


def setting(walk: Walk, body: Tree, lasting: bool) -> None:
    """SET and RESET. `lasting`: for sessions or calls to come, not for this one."""
    kind, name = body["kind"], body.get("name", "").lower()
    if kind == "VAR_RESET_ALL":
        names = ["*"]
    elif kind == "VAR_SET_MULTI":
        names = [item["DefElem"]["defname"] for item in body.get("args", ())]
        if name == "transaction snapshot":
            names = ["transaction_snapshot"]
    else:
        names = [name]
    for each in names:
        if lasting:
            walk.draft.settings[each] = None
        else:
            walk.setting(each)
    values = [constant(item) for item in body.get("args", ())]
    if kind == "VAR_SET_VALUE":
        check_pinned(walk, name, values)
    if name == "search_path" or kind == "VAR_RESET_ALL":
        if walk.inner and not lasting:
            walk.draft.path_changed = True
        elif kind == "VAR_SET_VALUE" and not lasting and not body.get("is_local"):
            path = [value for value in values if value is not None]
            if len(path) == len(values) and "$user" not in path:
                walk.draft.effect(search_path=tuple(path))
    elif name in ("role", "session_authorization") and walk.inner and not lasting:
        walk.draft.path_changed = True
