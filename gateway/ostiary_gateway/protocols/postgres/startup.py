"""What a client may ask for when it connects: which database, which settings. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .wire import PROTOCOL_3_2, Startup


class Refusal(Exception):
    """The client is not let in. `code` is an SQLSTATE, `record` the id of its record if it has been recorded."""

    def __init__(self, code: str, message: str, hint: str = "", record: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.record = record


SETTINGS: Final = frozenset({
    "application_name", "bytea_output", "client_min_messages", "datestyle", "default_transaction_deferrable",
    "default_transaction_isolation", "default_transaction_read_only", "extra_float_digits", "geqo",
    "idle_in_transaction_session_timeout", "idle_session_timeout", "intervalstyle", "jit", "lock_timeout",
    "plan_cache_mode", "search_path", "statement_timeout", "timezone", "transaction_timeout",
})  # fmt: skip
"""Settings that may come with the startup message. They change no rights, and no statement's meaning to the policies:
`search_path` is asked for before the first name is resolved. All others must be SET, where policies see them."""

_ENCODINGS: Final = frozenset({"utf8", "unicode"})
_OPTION = re.compile(r"(?:-c\s*|--)([A-Za-z_][A-Za-z0-9_.\-]*)=((?:\\.|[^\\\s])*)\s*")


@dataclass(frozen=True, slots=True)
class Opening:
    """What is agreed on: the database, the settings for the server, and what to tell the client of the protocol."""

    database: str
    settings: dict[str, str]
    application: str
    asked_user: str
    minor: int
    negotiate: tuple[str, ...] | None
    """Protocol options that are not known here; None if there is nothing to negotiate."""


def is_utf8(encoding: str) -> bool:
    """PostgreSQL ignores case and punctuation in encoding names."""
    return re.sub(r"[^a-z0-9]", "", encoding.lower()) in _ENCODINGS


def open_with(startup: Startup, *, database: str | None, connection: str) -> Opening:
    """`database` is the Connection's, None if the client may choose; `connection` its name. Raises Refusal."""
    parameters = dict(startup.parameters)
    user = parameters.pop("user", "")
    if not user:
        raise Refusal("28000", "no PostgreSQL user name specified in startup packet")
    asked = parameters.pop("database", "") or user
    if parameters.pop("replication", "false").lower() not in ("false", "off", "no", "0"):
        raise Refusal("0A000", "Replication connections are not available through Ostiary.")
    if database is None:
        database = asked
    elif asked not in (database, user, connection):
        raise Refusal(
            "3D000", f'This Connection leads to the database "{database}", not to "{asked}".',
            f"Connect with dbname={database}.",
        )  # fmt: skip
    unknown = tuple(name for name in parameters if name.startswith("_pq_."))
    settings = dict(_options(parameters.pop("options", "")))
    for name, value in parameters.items():
        if name not in unknown:
            settings[name.lower()] = value
    for name in list(settings):
        _check(name, settings)
    minor = min(startup.minor, PROTOCOL_3_2 & 0xFFFF)
    if minor == 1:
        minor = 0  # 3.1 never was: it stands for "3.0, please"
    negotiate = unknown if unknown or minor != startup.minor else None
    return Opening(database, settings, settings.get("application_name", ""), user, minor, negotiate)


def _check(name: str, settings: dict[str, str]) -> None:
    if name == "client_encoding":
        if not is_utf8(settings.pop(name)):
            raise Refusal(
                "22023", "Ostiary reads and checks statements as UTF-8: client_encoding must be UTF8.",
                "Unset PGCLIENTENCODING, or connect with client_encoding=UTF8.",
            )  # fmt: skip
    elif name == "standard_conforming_strings":
        if settings.pop(name).lower() not in ("on", "true", "yes", "1"):
            raise Refusal("22023", "standard_conforming_strings must be on: statements could be misread otherwise.")
    elif name not in SETTINGS:
        raise Refusal(
            "42501", f'The setting "{name}" cannot come with the connection.',
            f"Connect without it, and SET {name} afterwards, where the policies can see it.",
        )  # fmt: skip


def _options(text: str) -> list[tuple[str, str]]:
    """`-c name=value` and `--name=value`, as PostgreSQL's pg_split_opts reads them (a backslash quotes)."""
    found: list[tuple[str, str]] = []
    position = len(text) - len(text.lstrip())
    while position < len(text):
        match = _OPTION.match(text, position)
        if match is None:
            raise Refusal(
                "22023", f"The option {text[position : position + 40]!r} is not understood.",
                "Only -c name=value and --name=value can be used in options.",
            )  # fmt: skip
        found.append((match[1].replace("-", "_").lower(), re.sub(r"\\(.)", r"\1", match[2])))
        position = match.end()
    return found


def split_search_path(setting: str, role: str) -> tuple[str, ...]:
    """The schemas of a search_path, in order, unquoted, with `$user` replaced (PostgreSQL: SplitIdentifierString)."""
    names: list[str] = []
    for match in re.finditer(r'\s*(?:"((?:[^"]|"")*)"|([^,"]+?))\s*(?:,|$)', setting):
        quoted, plain = match.groups()
        name = quoted.replace('""', '"') if quoted is not None else plain.strip().lower()
        if name:
            names.append(role if name == "$user" else name)
    return tuple(names)
