"""Requests of three protocols with statements that differ, for the benchmark of the store's search."""

from __future__ import annotations

import hashlib
import os
import random
from bisect import bisect
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate

import orjson

from ostiary_store.digest import start, verdict
from ostiary_store.model import Batch, Place, RecordRef, RequestRow, SessionRow, Tally

DAY = 86_400
NEWEST = 1_795_435_200.0
"""When the last request begins: a whole day."""
PER_SESSION = 100
CLUSTERED = "backfill_2026"
"""Occurs in every hundredth request of one hour in the middle of all, and nowhere else."""

_VERBS = ("list", "get", "update", "patch", "delete", "create", "watch")
_KINDS = ("pods", "deployments", "configmaps", "secrets", "services", "jobs", "nodes", "events")
_PROGRAMS = ("systemctl status", "journalctl -u", "tail -n 100", "grep -r", "kubectl get", "df -h", "cat", "ls -la")


class Vocabulary:
    """Words of which few are common and most are rare, as in real schemas."""

    def __init__(self, chance: random.Random, size: int) -> None:
        sounds = [
            "".join(chance.choice("bcdfglmnprstvz") + chance.choice("aeiou") for _ in range(3)) for _ in range(size)
        ]
        self.words = [f"{sound}{chance.choice(('s', 'ed', 'er', ''))}{at if at % 7 == 0 else ''}"
                      for at, sound in enumerate(sounds)]  # fmt: skip
        self._upto = list(accumulate(1 / (at + 10) for at in range(size)))
        self._chance = chance

    def one(self) -> str:
        return self.words[bisect(self._upto, self._chance.random() * self._upto[-1]) % len(self.words)]


class Making:
    """Batches for one record: `total` requests that begin evenly over `days` days before NEWEST."""

    def __init__(self, total: int, days: float, seed: int = 8) -> None:
        self.total = total
        self.first = NEWEST - days * DAY
        self.apart = days * DAY / total
        self.chance = random.Random(seed)
        self.tables = Vocabulary(self.chance, 20_000)
        self.columns = Vocabulary(self.chance, 5_000)
        self.users = [f"system:serviceaccount:agents:agent-{at:03d}" for at in range(200)]
        self.connections = [
            *((f"prod/db-{at:02d}", "Postgres") for at in range(12)),
            *((f"prod/cluster-{at}", "Kubernetes") for at in range(4)),
            *((f"edge/host-{at:02d}", "SSH") for at in range(20)),
        ]
        header = b"ostiary record 2" + os.urandom(16) + bytes(32)
        self.record = RecordRef(header[16:32], header, "prod/bench", "bench")
        self.decisions = [self._decision(at) for at in range(40)]

    def _decision(self, at: int) -> tuple[bytes, bytes]:
        action = "Deny" if at % 20 == 0 else "RequireApproval" if at % 20 == 1 else "Allow"
        rule = {"namespace": "prod", "policy": f"team-{at % 8}", "rule": f"rule-{at}", "revision": "r"}
        watching = [{**rule, "rule": "watching", "action": "Deny", "enforced": False, "priority": 0}] if at == 7 else []
        body = orjson.dumps({"action": action, "rule": rule, "matched": watching})
        return hashlib.sha256(body).digest()[:16], body

    def text(self, protocol: str, number: int, at: float) -> str:
        """What somebody may have asked."""
        chance, table, column = self.chance, self.tables.one(), self.columns.one()
        if protocol == "Kubernetes":
            return f"{chance.choice(_VERBS)} {chance.choice(_KINDS)} {table}-{chance.randrange(16**6):06x} in {column}"
        if protocol == "SSH":
            program = chance.choice(_PROGRAMS)
            return f"{program} /var/log/{table}/{column}.{chance.randrange(1000)}.log | head -n {number % 50}"
        middle = self.first + (NEWEST - self.first) / 2
        if 0 <= at - middle < 3600 and number % 100 == 0:
            return f"INSERT INTO {CLUSTERED} SELECT * FROM {table} WHERE {column} > {chance.randrange(10**6)}"
        kind = chance.randrange(4)
        if kind == 0:
            return f"UPDATE {table} SET {column} = 'v{chance.randrange(10**5)}' WHERE id = {chance.randrange(10**8)}"
        if kind == 1:
            joined, grouped = self.tables.one(), self.columns.one()
            return (
                f"SELECT {column}, {grouped}, count(*) FROM {table} JOIN {joined} USING ({column}_id)"
                f" WHERE created_at > '2026-{chance.randrange(1, 13):02d}-01' GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 100"
            )
        tenant = chance.randrange(5000)
        return f"SELECT * FROM {table} WHERE {column} = {chance.randrange(10**8)} AND tenant = 't-{tenant}'"

    def batches(self, size: int = 20_000) -> Iterator[Batch]:
        """In order. Each session is opened, used and closed in one."""
        place = start(self.record)
        done = sid = 0
        verdicts = [verdict(ident, orjson.loads(body)) for ident, body in self.decisions]
        while done < self.total:
            end = Place(place.position + 1, place.number + 1, os.urandom(32), 0)
            batch = Batch(self.record, place, end)
            if not done:
                batch.decisions = dict(self.decisions)
            tallies: Counter[tuple[int, str, str, str, str, str, bool]] = Counter()
            count = min(size, self.total - done)
            sessions = max(1, count // PER_SESSION)
            made = []
            for at in range(sessions):
                sid += 1
                agent = int(self.chance.random() ** 2 * len(self.users))
                username = self.users[agent]
                # An agent has a few targets, and a target a few rules.
                target = (agent * 7 + self.chance.randrange(3)) % len(self.connections)
                connection, protocol = self.connections[target]
                name = f"{sid:08x}{self.chance.getrandbits(48):012x}"
                opened = self.first + (done + at) * self.apart
                made.append((name, connection, protocol, username, target))
                batch.opened.append(
                    SessionRow(name, opened, opened + count * self.apart, "closed", connection, protocol, username,
                               "Full", requests=PER_SESSION, events=PER_SESSION + 2, head=os.urandom(32),
                               record=self.record.uuid, sid=sid, subject={"username": username})
                )  # fmt: skip
            for at in range(count):
                name, connection, protocol, username, target = made[at % sessions]
                number = at // sessions + 1
                begun = self.first + (done + at) * self.apart
                allowed = self.chance.random() < 0.95
                rule = 2 + (target + self.chance.randrange(4)) % 38 if allowed else self.chance.randrange(2)
                found = verdicts[rule]
                batch.requests.append(
                    RequestRow(name, number, begun, begun + 0.01, connection, protocol, username,
                               self.text(protocol, number, begun), found.action, found.policy, found.rule, found.id,
                               found.would_deny, "denied" if found.action == "Deny" else "ok" if at % 50 else "error",
                               1, 100)
                )  # fmt: skip
                for hit in found.hits:
                    tallies[int(begun // 3600) * 3600, connection, username, *hit] += 1
            batch.tallies = [Tally(*key, requests) for key, requests in tallies.items()]
            yield batch
            place, done = end, done + count
