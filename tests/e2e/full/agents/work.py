"""Agents at work in a pod: sessions that ask over and over, and check every answer. Tells what happens, a line of JSON
each, on standard output. Needs Python and wire.py beside it, nothing else.

Told: `begin` and `end` of a session, with the pod that serves it; `turned` when the answer to a statement that policies
allow and deny in turns is another one; `login` that is refused; `wrong` for whatever must not happen; `count` now and
then."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections import Counter
from typing import Any

from wire import Closed, Refused, Wire

HOST, PORT = os.environ["SERVICE_HOST"], int(os.environ["SERVICE_PORT"])
TOKEN = os.environ["AGENT_TOKEN"]
SESSIONS = int(os.environ.get("SESSIONS", "8"))
PAUSE = 0.05
SILENCE = 60.0
"""Seconds without an answer that are too many: a request must be decided, or its session end."""
HIDDEN = ("[email]", "[hidden]")

told = threading.Lock()
counts: Counter[str] = Counter()


def tell(event: str, **more: Any) -> None:
    """A line."""
    with told:
        sys.stdout.write(json.dumps({"event": event, "at": round(time.time(), 3), **more}) + "\n")
        sys.stdout.flush()


def ask(session: Wire, sql: str) -> tuple[str, str]:
    """`row` and its first value, `none`, or `error` and the SQLSTATE. Raises Closed, TimeoutError."""
    kind, value = "none", ""
    for message in session.simple(sql):
        if message.type == "D" and kind != "error":
            kind, value = "row", (message.cells[0] or b"").decode()
        elif message.type == "E":
            kind, value = "error", message.fields["C"]
    return kind, value


def last_words(session: Wire, error: Closed | OSError) -> str:
    """The SQLSTATE that a session was ended with; empty if it was without one."""
    messages = error.messages if isinstance(error, Closed) else []
    if isinstance(error, OSError):  # it was ended before we asked; what was said is still there to be read
        with contextlib.suppress(Closed, OSError):
            while True:
                messages.append(session.receive())
    codes = [message.fields["C"] for message in messages if message.type == "E"]
    return codes[-1] if codes else ""


class Agent(threading.Thread):
    """One session after the other; each lasts until somebody else ends it."""

    def __init__(self, number: int) -> None:
        super().__init__(daemon=True)
        self.number = number
        self._turned = ""

    def run(self) -> None:
        pod = ""
        while True:
            try:
                session = Wire.login(HOST, PORT, user="agent", password=TOKEN, database="shop", timeout=SILENCE)
            except (Refused, Closed, OSError) as error:
                tell("login", agent=self.number, problem=str(error) or type(error).__name__)
                time.sleep(0.2)
                continue
            doing = "asking for its pod"
            try:
                # What the database sees is the pod that serves the session.
                pod = ask(session, "select inet_client_addr()")[1]
                tell("begin", agent=self.number, pod=pod)
                turn = 0
                while True:
                    turn += 1
                    doing = "at rest"
                    time.sleep(PAUSE)
                    doing = "at work"
                    self._work(session, turn, pod)
            except TimeoutError:
                tell("wrong", agent=self.number, pod=pod, what=f"no answer within {SILENCE:.0f} s")
            except (Closed, OSError) as error:
                tell("end", agent=self.number, pod=pod, doing=doing, code=last_words(session, error))
            session.close()

    def _work(self, session: Wire, turn: int, pod: str) -> None:
        self._expect(session, "select count(*) from orders where id <= 10", {("row", "10")})
        self._expect(session, f"insert into ledger values ({turn})", {("error", "42501")})
        self._expect(session, f"select email from customers where id = {1 + turn % 2000}",
                     {("row", hidden) for hidden in HIDDEN})  # fmt: skip
        found = self._expect(session, "select note from switched", {("row", "there"), ("error", "42501")})
        if found and found[0] != self._turned:
            self._turned = found[0]
            tell("turned", agent=self.number, pod=pod, to="allowed" if found[0] == "row" else "denied")

    def _expect(self, session: Wire, sql: str, wanted: set[tuple[str, str]]) -> tuple[str, str]:
        begun = time.monotonic()
        found = ask(session, sql)
        counts["answers"] += 1
        counts["slowest"] = max(counts["slowest"], round((time.monotonic() - begun) * 1000))
        if found not in wanted:
            tell("wrong", agent=self.number, what=f"{sql} → {found[0]} {found[1]}")
        return found


class Comer(threading.Thread):
    """New sessions, one after the other."""

    def run(self) -> None:
        while True:
            time.sleep(0.5)
            try:
                session = Wire.login(HOST, PORT, user="agent", password=TOKEN, database="shop", timeout=SILENCE)
                if ask(session, "select 1") == ("row", "1"):
                    counts["logins"] += 1
                session.close()
            except (Refused, Closed, OSError) as error:
                tell("login", agent="comer", problem=str(error) or type(error).__name__)


def main() -> None:
    """Until killed."""
    for number in range(SESSIONS):
        Agent(number).start()
    Comer(daemon=True).start()
    while True:
        time.sleep(1)
        tell("count", **counts)
        counts["slowest"] = 0


if __name__ == "__main__":
    main()
