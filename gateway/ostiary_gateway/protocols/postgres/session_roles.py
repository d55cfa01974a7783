"""Makes a login role for each session, drops it when the session's connection is gone, and sweeps what was left.

A role is dropped after its connection is gone, however that went. What the gateway cannot drop now it holds (NOLOGIN,
no longer valid), says so, and tries again. Roles of a gateway that died are known by this: they have no connection,
and no administrating connection of their gateway is there.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Final

import structlog

from ostiary_api.connection import PostgresRoleCredentials
from ostiary_gateway.counters import Counters, RoleEvent
from ostiary_gateway.credentials import postgres_role as sql

from .administration import AdminConnection, AdminError, Administration
from .auth import KeyCache, ScramKeys
from .upstream import Target, UpstreamError

log = structlog.get_logger(__name__)

SWEEP: Final = 60.0
"""Seconds between looks for leftovers while there are sessions, or roles that could not be dropped."""
RARE_SWEEP: Final = 300.0
"""Seconds between such looks otherwise."""
RETRY: Final = 5.0
"""Seconds until a server that could not be reached is tried again."""
PARTING: Final = 0.5
"""Seconds that a connection gets to end by itself before it is terminated."""
LINGER: Final = 10.0
"""Seconds that a terminated connection gets to end."""
STEP: Final = 0.02
"""Seconds between looks whether a connection has ended."""
CLOSING: Final = 10.0
"""Seconds for dropping all roles when the gateway stops."""
BATCH: Final = 200
"""Roles that are dropped in one round."""
_GONE: Final = "42704"
_EXISTS: Final = "42710"
_DEPENDENTS: Final = "2BP01"


class SessionRoles:
    """The logins of one Connection whose credential is `postgresRole`. `target` holds the administrator's login.

    `start` before, `close` after use; `retire` lets it end by itself when its last session has.
    """

    def __init__(
        self, connection: str, target: Target, spec: PostgresRoleCredentials, database: str, keys: KeyCache,
        counters: Counters,
    ) -> None:  # fmt: skip
        self.connection = connection
        self.owner = sql.new_owner()
        self._target = target
        self._spec = spec
        self._admin = Administration(target, database, keys, sql.ADMINISTRATION + self.owner)
        self._counters = counters
        self._live: set[str] = set()
        self._leaving: dict[str, _Leaving] = {}
        self._stuck: dict[str, str] = {}
        """Roles that could not be dropped, and why."""
        self._wake = asyncio.Event()
        self._ending = False
        self._complaint = ""
        self._task: asyncio.Task[None] | None = None

    # -- logins

    async def take(self, session: str, agent: str) -> Target:
        """A new role, to log in with within the ttl. Raises UpstreamError."""
        name, keys = sql.role_name(self.connection, self.owner, agent, session), sql.LoginKeys()
        made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        comment = (
            f"Ostiary: session {session} of {agent[:200]} at Connection {self.connection}, "
            f"gateway process {self.owner}, made {made}"
        )
        self._live.add(name)
        try:
            await self._create(name, keys.verifier(), comment)
        except BaseException:
            self._leave(name)
            raise
        self._count("created")
        where = self._target
        return Target(
            where.host, where.port, name, "", where.tls, where.server_name,
            keys=ScramKeys(keys.client_key, keys.server_key), role=self._spec.member_of[0],
        )  # fmt: skip

    async def entered(self, target: Target) -> None:
        """A role may give itself a password: before its session runs anything, logging in is no longer of use."""
        for attempt in (1, 2):
            fresh = True
            try:
                async with self._admin.connection() as admin:
                    fresh = admin.fresh
                    await admin.run(sql.shut(target.user))
                return
            except AdminError as problem:
                raise UpstreamError(f"a session's role cannot be shut: {problem} (SQLSTATE {problem.code})") from None
            except UpstreamError:
                if fresh or attempt > 1:
                    raise

    def give_back(self, target: Target) -> None:
        """The connection of this login is gone, or never was."""
        self._leave(target.user)

    def stand_in(self, role: str) -> str:
        """The role that plans for `role` on a connection aside. A session that acts as its own login role has the
        rights of all groups; so has the connection aside when it acts as its own."""
        return "none" if sql.owner_of(role, self.connection) is not None else role

    async def _create(self, name: str, verifier: str, comment: str) -> None:
        spec = self._spec
        for attempt in (1, 2):
            fresh = True
            try:
                async with self._admin.connection() as admin:
                    fresh = admin.fresh
                    await admin.run(sql.create(name, verifier, spec.member_of, admin.now + spec.ttl, comment))
                return
            except AdminError as problem:
                if problem.code == _EXISTS and attempt > 1:
                    return  # the first attempt was carried out, and only its answer was lost
                raise UpstreamError(await self._explain(problem)) from None
            except UpstreamError:
                if fresh or attempt > 1:
                    raise
        raise AssertionError("unreachable")

    async def _explain(self, problem: AdminError) -> str:
        """What the server said, and what to GRANT."""
        text = f"the administrator cannot make a session's role: {problem} (SQLSTATE {problem.code})"
        found = await self._problems()
        return "; ".join([text, *found])

    async def _problems(self) -> list[str]:
        try:
            async with self._admin.connection() as admin:
                return sql.advice(await admin.run(sql.rights(self._spec.member_of)), admin.version)
        except (AdminError, UpstreamError) as problem:
            return [str(problem)]

    def _leave(self, name: str) -> None:
        if name in self._live:
            self._live.discard(name)
            now = time.monotonic()
            self._leaving[name] = _Leaving(now, now)
            self._wake.set()

    # -- the janitor

    def start(self) -> None:
        """Begins to drop and to sweep, with a look at the administrator's rights and at what was left."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def retire(self) -> None:
        """Ends when the last session has."""
        self._ending = True
        self._wake.set()

    @property
    def done(self) -> bool:
        return self._task is None or self._task.done()

    async def close(self) -> None:
        """Drops what is left of the sessions that have ended, within CLOSING seconds."""
        self.retire()
        if self._task is not None:
            _, late = await asyncio.wait((self._task,), timeout=CLOSING)
            if late:
                self._task.cancel()
                await asyncio.wait((self._task,))
                left = len(self._live) + len(self._leaving)
                log.warning("session roles left for the next start to sweep", connection=self.connection, roles=left)

    async def _run(self) -> None:
        sweep_at = 0.0
        try:
            for problem in await self._problems():
                self._complain(problem)
            while not self._over:
                self._wake.clear()
                now = time.monotonic()
                try:
                    if now >= sweep_at and not self._ending:
                        sweep_at = now + RARE_SWEEP
                        await self._sweep()
                    await self._drop_due()
                    self._complaint = ""
                except UpstreamError as problem:
                    self._complain(str(problem))
                    self._put_off()
                    sweep_at = min(sweep_at, time.monotonic() + SWEEP)
                except Exception:
                    # Whatever it is: roles must go on being dropped.
                    log.exception("session roles: a round failed", connection=self.connection)
                    self._put_off()
                if self._live or self._stuck:
                    sweep_at = min(sweep_at, time.monotonic() + SWEEP)
                self._admin.trim(keep=1 if self._live or self._leaving else 0)
                if not self._over:
                    await self._pause(sweep_at)
        finally:
            await self._admin.close()

    @property
    def _over(self) -> bool:
        return self._ending and not self._live and not self._leaving

    async def _pause(self, sweep_at: float) -> None:
        due = min([sweep_at, *(leaving.due for leaving in self._leaving.values())])
        wait = min(max(due - time.monotonic(), 0.0), SWEEP / 2)
        try:
            async with asyncio.timeout(wait):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _put_off(self) -> None:
        later = time.monotonic() + RETRY
        for leaving in self._leaving.values():
            leaving.due = max(leaving.due, later)

    def _complain(self, problem: str) -> None:
        if problem != self._complaint:
            log.error("session roles: trouble", connection=self.connection, problem=problem)
        self._complaint = problem

    async def _drop_due(self) -> None:
        while names := [name for name, leaving in self._leaving.items() if leaving.due <= time.monotonic()][:BATCH]:
            async with self._admin.connection() as admin:
                found = {str(name): int(count or 0) for name, count in await admin.run(sql.in_use(names))}
                for name in names:
                    await self._part(admin, name, found.get(name))

    async def _part(self, admin: AdminConnection, name: str, processes: int | None) -> None:
        """One step towards the end of a role. `processes` of the server that it has; None if there is no such role."""
        leaving, now = self._leaving[name], time.monotonic()
        if processes is None:
            self._settled(name, leaving)
            return
        try:
            if processes == 0:
                await self._drop(admin, name)
                self._settled(name, leaving, dropped=True)
            elif now - leaving.since > PARTING + LINGER:
                await self._hold(admin, name, f"{processes} of its server processes do not end")
            else:
                if now - leaving.since > PARTING and not leaving.terminated:
                    await admin.run(sql.terminate(name, admin.version))
                    leaving.terminated = True
                leaving.due = now + STEP
        except AdminError as problem:
            said = f"{problem} (SQLSTATE {problem.code})"
            if problem.code == _DEPENDENTS:
                said += f"; in that database, as a superuser: DROP OWNED BY {sql.identifier(name)}"
            await self._hold(admin, name, said)
        except UpstreamError as problem:
            if admin.lost:
                raise
            await self._hold(admin, name, str(problem))

    async def _drop(self, admin: AdminConnection, name: str) -> None:
        """Raises AdminError."""
        try:
            await admin.run(sql.drop(name))
        except AdminError as problem:
            if problem.code != _DEPENDENTS:
                raise
            await self._hand_over(admin, name)
            await admin.run(sql.drop(name))

    async def _hand_over(self, admin: AdminConnection, name: str) -> None:
        """What an agent made as the login role itself becomes the group's: in every database where there is any."""
        databases = [row[0] for row in await admin.run(sql.databases_of(name))]
        if None in databases and len(databases) == 1:
            await self._to_an_heir(admin, name)
        for database in databases:
            if database is not None:
                async with self._admin.elsewhere(database) as there:
                    await self._to_an_heir(there, name)
        log.info("objects of a session role handed over", connection=self.connection, role=name, databases=databases)

    async def _to_an_heir(self, admin: AdminConnection, name: str) -> None:
        """The first group that may own what there is."""
        failure: AdminError | None = None
        for heir in self._spec.member_of:
            try:
                await admin.run(sql.hand_over(name, heir, admin.version))
                return
            except AdminError as problem:
                failure = failure or problem
        assert failure is not None
        raise failure

    async def _hold(self, admin: AdminConnection, name: str, why: str) -> None:
        """It cannot be dropped now. Nobody can log in with it, and the next sweeps try again."""
        self._leaving.pop(name, None)
        try:
            await admin.run(sql.hold(name))
            held = True
        except AdminError as problem:
            if problem.code == _GONE:
                return
            held = False
        self._count("failed")
        if self._stuck.get(name) != why:
            log.error(
                "a session role cannot be dropped: it is tried again", connection=self.connection, role=name,
                problem=why, can_log_in=not held,
            )  # fmt: skip
        self._stuck[name] = why
        self._counters.roles_stuck[self.connection] = len(self._stuck)

    def _settled(self, name: str, leaving: _Leaving, *, dropped: bool = False) -> None:
        self._leaving.pop(name, None)
        if self._stuck.pop(name, None) is not None:
            self._counters.roles_stuck[self.connection] = len(self._stuck)
        if dropped:
            self._count("swept" if leaving.swept else "dropped")
            if leaving.swept:
                log.info("a leftover session role was dropped", connection=self.connection, role=name)

    async def _sweep(self) -> None:
        """Finds roles of this Connection that nobody has any more."""
        async with self._admin.connection() as admin:
            # In this order: an owner is there before its first role, and until its last is dropped.
            roles = await admin.run(sql.all_roles(self.connection))
            owners = {str(row[0]).removeprefix(sql.ADMINISTRATION) for row in await admin.run(sql.LIVE_OWNERS)}
        now = time.monotonic()
        there = {str(name) for name, _ in roles}
        for name in [name for name in self._stuck if name not in there]:
            del self._stuck[name]
        self._counters.roles_stuck[self.connection] = len(self._stuck)
        for name, processes in ((str(name), int(count or 0)) for name, count in roles):
            owner = sql.owner_of(name, self.connection)
            if owner is None or name in self._live or name in self._leaving:
                continue
            if name in self._stuck or (processes == 0 and (owner == self.owner or owner not in owners)):
                self._leaving[name] = _Leaving(now, now, swept=True)

    def _count(self, event: RoleEvent) -> None:
        self._counters.roles[self.connection, event] += 1


class _Leaving:
    """A role that is to be dropped: since when, when to look next, whether its connections were terminated."""

    __slots__ = ("due", "since", "swept", "terminated")

    def __init__(self, since: float, due: float, *, swept: bool = False) -> None:
        self.since = since
        self.due = due
        self.swept = swept
        self.terminated = False
