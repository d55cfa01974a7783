"""A PostgreSQL login role for one session: its name, its SCRAM keys, the statements that make and unmake it. No I/O.

There is no password. The role's verifier is made from two random keys, and the gateway logs in with these: what the
server stores, logs or shows of the role lets nobody log in (RFC 5802: StoredKey is a digest of ClientKey).

Sources: PostgreSQL documentation, "CREATE ROLE", "GRANT" (on roles), "REASSIGN OWNED", "pg_authid" (rolpassword).
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

PREFIX: Final = "ostiary_"
MAX_AGENT: Final = 20
"""Characters of the agent's name in the role's: with the rest that makes 63, PostgreSQL's limit."""
ITERATIONS: Final = 4096
"""What the verifier claims. No work hangs on it: the keys are random, not derived from a password."""
_TAG: Final = 6
_FIRST_MEMBERSHIP_OPTIONS: Final = 16
"""The major version with INHERIT and SET options of a membership."""


@dataclass(frozen=True, slots=True)
class LoginKeys:
    """What RFC 5802 would derive from a password. Whoever has the ClientKey can log in as the role."""

    client_key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    server_key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def verifier(self) -> str:
        """As PostgreSQL stores it: `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, in base64."""
        salt = secrets.token_bytes(16)
        stored = hashlib.sha256(self.client_key).digest()
        packed = [base64.b64encode(each).decode() for each in (salt, stored, self.server_key)]
        return f"SCRAM-SHA-256${ITERATIONS}:{packed[0]}${packed[1]}:{packed[2]}"


def prefix(connection: str) -> str:
    """What the names of all session roles of one Connection (`namespace/name`) begin with."""
    digest = base64.b32encode(hashlib.sha256(connection.encode()).digest()).decode().lower()
    return f"{PREFIX}{digest[:_TAG]}_"


def new_owner() -> str:
    """Names one gateway process among those that serve the same Connection."""
    return base64.b32encode(secrets.token_bytes(5)).decode().lower()[:_TAG]


def role_name(connection: str, owner: str, agent: str, session: str) -> str:
    """`ostiary_<Connection>_<owner>_<agent>_<session>`, at most 63 bytes of a-z, 0-9 and _."""
    return f"{prefix(connection)}{owner}_{short_name(agent)}_{session}"


def owner_of(name: str, connection: str) -> str | None:
    """The owner in a session role's name; None if it is none of this Connection's."""
    found = re.fullmatch(re.escape(prefix(connection)) + r"([a-z2-7]{6})_[a-z0-9_]+_[0-9a-z]+", name)
    return found[1] if found is not None else None


def short_name(agent: str) -> str:
    """The last part of a subject's name (`system:serviceaccount:agents:planner`, a SPIFFE id), as part of a role's."""
    last = re.split(r"[:/]", agent.rstrip(":/"))[-1].split("@")[0]
    plain = re.sub(r"[^a-z0-9]+", "_", last.lower()).strip("_")
    return plain[:MAX_AGENT].strip("_") or "agent"


def identifier(name: str) -> str:
    """Quoted. Raises ValueError for what no name can hold."""
    if "\0" in name or not name:
        raise ValueError("a name that is empty or has a zero byte")
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quoted, for a session with standard_conforming_strings on."""
    return "'" + text.replace("\0", "").replace("'", "''") + "'"


def create(name: str, verifier: str, member_of: Sequence[str], valid_until: float, comment: str) -> str:
    """Makes the role, in one implicit transaction. `valid_until`: seconds since the epoch, by the server's clock."""
    until = datetime.datetime.fromtimestamp(valid_until, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S+00")
    role, groups = identifier(name), ", ".join(map(identifier, member_of))
    return (
        f"CREATE ROLE {role} LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS "
        f"CONNECTION LIMIT 1 PASSWORD {literal(verifier)} VALID UNTIL {literal(until)} IN ROLE {groups}; "
        f"COMMENT ON ROLE {role} IS {literal(comment)}"
    )


def drop(name: str) -> str:
    """Waits only a moment for transactions that name the role: others are to be dropped too, and it is tried again."""
    return f"SET LOCAL lock_timeout = 500; DROP ROLE IF EXISTS {identifier(name)}"


def shut(name: str) -> str:
    """Whoever has logged in as the role stays; nobody else does, whatever password the role gives itself."""
    return f"ALTER ROLE {identifier(name)} NOLOGIN"


def hold(name: str) -> str:
    """Nobody can log in as the role any more."""
    return f"ALTER ROLE {identifier(name)} NOLOGIN VALID UNTIL '-infinity'"


def hand_over(name: str, heir: str, version: int) -> str:
    """What the role owns in this database becomes the heir's, and what it was granted is revoked."""
    role = identifier(name)
    return f"{_become(name, version)}; REASSIGN OWNED BY {role} TO {identifier(heir)}; DROP OWNED BY {role}"


def terminate(name: str, version: int) -> str:
    """The role's sessions end. Its own row is not touched: one of them may have it locked."""
    return (
        f"{_become(name, version)}; SELECT pg_catalog.pg_terminate_backend(a.pid) "
        f"FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid "
        f"WHERE r.rolname = {literal(name)}"
    )


def _become(name: str, version: int) -> str:
    """The administrator gets the role's rights until the role is dropped, to be allowed to touch what it has."""
    options = " WITH INHERIT TRUE, SET TRUE" if version >= _FIRST_MEMBERSHIP_OPTIONS else ""
    return f"GRANT {identifier(name)} TO CURRENT_USER{options}"


def in_use(names: Sequence[str]) -> str:
    """Which of these roles there are, and how many server processes each has."""
    listed = ", ".join(map(literal, names))
    return (
        "SELECT r.rolname, (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = r.oid) "
        f"FROM pg_catalog.pg_roles r WHERE r.rolname IN ({listed})"
    )


def all_roles(connection: str) -> str:
    """The session roles of a Connection, and how many server processes each has."""
    return (
        "SELECT r.rolname, (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = r.oid) "
        f"FROM pg_catalog.pg_roles r WHERE pg_catalog.starts_with(r.rolname, {literal(prefix(connection))})"
    )


ADMINISTRATION: Final = "ostiary roles "
"""With the owner: application_name of the gateway's administrating connections, by which others see that it lives."""

LIVE_OWNERS: Final = (
    "SELECT DISTINCT a.application_name FROM pg_catalog.pg_stat_activity a "
    "JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid "
    f"WHERE (r.rolcreaterole OR r.rolsuper) AND pg_catalog.starts_with(a.application_name, '{ADMINISTRATION}')"
)


def databases_of(name: str) -> str:
    """The databases in which something depends on the role; NULL for what belongs to no database."""
    return (
        "SELECT DISTINCT d.datname FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid "
        "LEFT JOIN pg_catalog.pg_database d ON d.oid = s.dbid "
        f"WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND r.rolname = {literal(name)}"
    )


def rights(member_of: Sequence[str]) -> str:
    """Who the administrator is, and of each wanted role whether it is there and may be granted."""
    listed = ", ".join(f"({position}, {literal(name)})" for position, name in enumerate(member_of))
    return (
        "SELECT current_user, me.rolsuper, me.rolcreaterole, wanted.name, r.oid IS NOT NULL, r.rolsuper, "
        "CASE WHEN r.oid IS NOT NULL THEN pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER WITH ADMIN OPTION') END "
        f"FROM (VALUES {listed}) AS wanted (position, name) "
        "JOIN pg_catalog.pg_roles me ON me.rolname = current_user "
        "LEFT JOIN pg_catalog.pg_roles r ON r.rolname = wanted.name ORDER BY wanted.position"
    )


def advice(rows: Sequence[Sequence[str | None]], version: int) -> list[str]:
    """What `rights` told, as what is wrong and the statement that mends it; nothing if all is well."""
    found: list[str] = []
    for administrator, superuser, creates, name, exists, mighty, grantable in rows:
        admin, group = identifier(str(administrator)), identifier(str(name))
        if superuser == "t":
            if exists != "t":
                found.append(f"the role {name} of memberOf does not exist: CREATE ROLE {group} NOLOGIN")
            continue
        if creates != "t" and not found:
            found.append(f"{administrator} may not create roles: ALTER ROLE {admin} CREATEROLE")
        if exists != "t":
            grant = f"; GRANT {group} TO {admin} WITH ADMIN OPTION" if version >= _FIRST_MEMBERSHIP_OPTIONS else ""
            found.append(f"the role {name} of memberOf does not exist: CREATE ROLE {group} NOLOGIN{grant}")
        elif mighty == "t":
            found.append(f"the role {name} of memberOf is a superuser, which only superusers may grant: name another")
        elif grantable != "t" and version >= _FIRST_MEMBERSHIP_OPTIONS:
            found.append(f"{administrator} may not grant {name}: GRANT {group} TO {admin} WITH ADMIN OPTION")
    return found
