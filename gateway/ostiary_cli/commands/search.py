"""`ostiary search WORDS…`: requests of all sessions, by what they say and by what was decided."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import click
import orjson
from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from ostiary_cli.commands.sessions import since_time
from ostiary_cli.errors import CommandError
from ostiary_cli.options import data_is_given, data_option, store_option
from ostiary_cli.stores import open_own, open_stored
from ostiary_gateway.audit.export import time_text
from ostiary_gateway.audit.transcript import DECISION_STYLES, OUTCOME_STYLES
from ostiary_gateway.audit.transcript_words import moment
from ostiary_gateway.visible import visible
from ostiary_store.blocking import StoreRecords
from ostiary_store.model import ALL, RequestQuery, RequestRow
from ostiary_store.words import Words, parse

WIDE: Final = 120
"""Columns from which on users and outcomes are shown as well."""
DEADLINE: Final = 1.0
"""Seconds of one stretch of the search; then it is told how far it came."""
PAGE: Final = 500

_SIGNS: Final = {"Allow": "✓", "Deny": "✗", "RequireApproval": "?"}


@click.command()
@click.argument("words", nargs=-1)
@data_option
@store_option
@click.option("--connection", metavar="NAMESPACE/NAME", help="Only those through this Connection.")
@click.option("--user", help="Only those of this user.")
@click.option("--protocol", type=click.Choice(["Postgres", "Kubernetes", "SSH"]), help="Only those of this protocol.")
@click.option(
    "--action", "--decision", type=click.Choice(["Allow", "Deny", "RequireApproval"]), help="Only those so decided."
)
@click.option("--policy", metavar="NAMESPACE/NAME", help="Only those that a rule of this policy decided.")
@click.option("--rule", help="Only those that this rule decided.")
@click.option(
    "--outcome", type=click.Choice(["ok", "error", "denied", "skipped", "lost"]), help="Only those that ended so."
)
@click.option("--would-deny", is_flag=True, help="Only those that a rule in Audit mode would not have let through.")
@click.option("--session", metavar="ID", help="Only those of this session.")
@click.option("--since", type=since_time, metavar="TIME", help="Only those begun since: a time, or a duration like 7d.")
@click.option("--until", type=since_time, metavar="TIME", help="Only those begun before: a time, or a duration.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many, newest first.")
@click.option("--json", "json_", is_flag=True, help="As JSON lines.")
def command(
    words: tuple[str, ...],
    data: Path,
    store: str | None,
    connection: str | None,
    user: str | None,
    protocol: str | None,
    action: str | None,
    policy: str | None,
    rule: str | None,
    outcome: str | None,
    would_deny: bool,
    session: str | None,
    since: float | None,
    until: float | None,
    limit: int,
    json_: bool,
) -> None:
    """Find recorded requests, the newest first: every one of WORDS occurs in the statement, call or command.

    Case does not matter. An argument with spaces is a phrase and occurs as it stands; word* begins so; -word (after
    --) must not occur. Without --store, the record of --data is read into its own store first, which takes a moment
    the first time.
    """
    text = " ".join(_phrase(word) for word in words)
    query = RequestQuery(
        text=text, connection=_named(connection), username=user, protocol=protocol, action=action,
        policy=_named(policy), rule=rule, outcome=outcome, would_deny=True if would_deny else None, session=session,
        since=since, until=until, deadline=DEADLINE,
    )  # fmt: skip
    with open_stored(store) if store and not data_is_given() else open_own(data) as stored:
        if session is not None:
            try:
                query = replace(query, session=stored.session(session)[1].id)
            except LookupError as error:
                raise CommandError(str(error.args[0]), "List them: ostiary sessions") from None
        rows = _found(stored, query, limit + 1)
        if json_:
            for number, row in enumerate(rows):
                if number < limit:
                    sys.stdout.buffer.write(orjson.dumps(_fields(row), option=orjson.OPT_APPEND_NEWLINE))
            sys.stdout.buffer.flush()
            return
        found = list(rows)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    if not found:
        console.print("No request fits.")
        return
    console.print(table(found[:limit], parse(text), console.width))
    line = Text(f"The newest {limit}; --limit shows more. " if len(found) > limit else "", "dim")
    console.print(line.append(f"All about one: ostiary session {found[0].id}", "dim"))


def _phrase(word: str) -> str:
    """As the search has it: what the shell gave as one argument stays together."""
    minus = "-" if word.startswith("-") else ""
    rest = word.removeprefix("-")
    return f'{minus}"{rest}"' if re.search(r"\s", rest) and '"' not in rest else word


def _named(name: str | None) -> str | None:
    return f"default/{name}" if name is not None and "/" not in name else name


def _found(stored: StoreRecords, query: RequestQuery, limit: int) -> Iterator[RequestRow]:
    """The search goes on until there are enough, or no more; meanwhile it is told how far back it came."""
    with ExitStack() as stack:
        status: Status | None = None
        while limit:
            page = stored.loop.run(stored.store.requests(replace(query, limit=min(limit, PAGE)), ALL))
            for row in page.requests:
                limit -= 1
                yield row
            if not page.next:
                return
            if page.searched_to is not None and sys.stderr.isatty():
                if status is None:
                    status = stack.enter_context(Console(stderr=True, highlight=False).status(""))
                status.update(f"Searched back to {moment(page.searched_to)}")
            query = replace(query, after=page.next)


def _fields(row: RequestRow) -> dict[str, object]:
    return {
        "request": row.id, "session": row.session, "number": row.number, "begun": time_text(row.begun),
        "ended": None if row.ended is None else time_text(row.ended), "connection": row.connection,
        "protocol": row.protocol, "username": row.username, "text": row.text, "action": row.action,
        "policy": row.policy, "rule": row.rule, "decision": row.decision, "wouldDeny": row.would_deny,
        "outcome": row.outcome, "rows": row.rows, "bytes": row.bytes,
    }  # fmt: skip


def table(found: Sequence[RequestRow], words: Words, width: int) -> Table:
    """One line a request; what does not fit into the terminal is cut, not folded."""
    wide = width >= WIDE
    shown = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0), expand=True)
    shown.add_column("Request", no_wrap=True, min_width=max(len(row.id) for row in found))
    shown.add_column("Begun (UTC)", no_wrap=True, min_width=14)
    if wide:
        shown.add_column("User", no_wrap=True, ratio=3, overflow="ellipsis")
    shown.add_column("Connection", no_wrap=True, ratio=3, overflow="ellipsis")
    shown.add_column("Decision", no_wrap=True, ratio=4, overflow="ellipsis")
    if wide:
        shown.add_column("Outcome", no_wrap=True, min_width=7)
    shown.add_column("Text", no_wrap=True, ratio=12 if wide else 8, overflow="ellipsis")
    for row in found:
        decision = Text(f"{_SIGNS.get(row.action, ' ')} ", DECISION_STYLES.get(row.action, ""))
        decision.append(visible(row.rule or ("no rule" if row.action == "Deny" else row.action)))
        if row.would_deny:
            decision.append(" (Audit: ✗)", "yellow")
        cells = [
            Text(row.id, "bold"),
            Text(moment(row.begun).removesuffix(" UTC").partition("-")[2], "dim"),
            Text(visible(row.connection)),
            decision,
            _excerpt(row.text, words),
        ]
        if wide:
            cells.insert(2, Text(visible(row.username)))
            cells.insert(5, Text(row.outcome or "runs", OUTCOME_STYLES.get(row.outcome, "cyan")))
        shown.add_row(*cells)
    return shown


def _excerpt(text: str, words: Words) -> Text:
    """One line, from a little before the first word that was looked for; these stand out."""
    line = " ".join(text.split())
    terms = sorted({term for part in words.parts for term in (part.phrase, *part.words) if term}, key=len, reverse=True)
    if not terms:
        return Text(visible(line[:1000]))
    pattern = re.compile("|".join(re.escape(" ".join(term.split())) for term in terms), re.IGNORECASE)
    first = pattern.search(line)
    if first is not None and first.start() > 60:
        line = f"… {line[first.start() - 30 :]}"
    shown = Text(visible(line[:1000]))
    shown.highlight_regex(pattern, "bold yellow")
    return shown
