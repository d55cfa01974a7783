"""What the demo looks like."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.status import Status
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from ostiary_cli.admin_socket import Item
from ostiary_cli.approval_view import whole
from ostiary_cli.demo.scenes import Scene
from ostiary_gateway.audit.reader import Reader, Session
from ostiary_gateway.audit.transcript import render
from ostiary_gateway.audit.transcript_words import Options
from ostiary_gateway.audit.verify import Report
from ostiary_gateway.visible import visible

DETAIL_SHOWN = 130
"""Characters of a denial's DETAIL that are shown."""
COLOURS = {"allowed": "green", "masked": "magenta", "denied": "red", "asked": "yellow"}


class Show:
    """Prints the demo. Two panels stand side by side where there is room."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._number = 0

    def title(self) -> None:
        """The first lines."""
        lines = Text.assemble(
            ("Ostiary", "bold cyan"),
            " stands between an agent and a shop's database.\n",
            ("agent", "bold"),
            " ── its own token ──▶ ",
            ("ostiary", "bold cyan"),
            " ── the password ──▶ ",
            ("PostgreSQL 18", "bold"),
            "\nPolicies decide before a statement runs; answers are masked and recorded.",
            justify="center",
        )
        self.console.print(Panel(lines, box=box.DOUBLE, border_style="cyan", padding=1))

    def waiting(self, what: str) -> AbstractContextManager[Status]:
        """A spinner for as long as the block lasts."""
        return self.console.status(f"{what} …")

    def strangers(self, tries: Sequence[tuple[str, str, str]]) -> None:
        """Ways in that must be closed."""
        self._head("It has no other way in", "denied")
        for title, text, wrong in tries:
            self.console.print(self._panel(title, text, "red", wrong))

    def scene(self, scene: Scene, client: str, seen: str, held: str, wrong: str) -> None:
        """What the agent asked, what it saw, and what is true."""
        self._head(scene.title, scene.expect)
        self.console.print(_sql(scene.statement))
        left = self._panel(f"the agent sees ({client})", seen, COLOURS[scene.expect], wrong)
        right = self._panel("the database holds", held, "bright_black", "")
        self.console.print(self._beside(left, right))
        if scene.comment:
            self.console.print(Text(f"  {scene.comment}", "italic dim"))

    def question(self, statement: str) -> None:
        """What the agent wants to do, and may not do by itself."""
        self._head("It wants to change a lot, so a person is asked", "asked")
        self.console.print(_sql(statement))

    def asked(self, item: Item, command: str, *, by_itself: bool) -> None:
        """What the person sees, and how to answer."""
        self.console.print(whole(item))
        who = "the demo answers by itself" if by_itself else "now you: the agent's client is waiting for"
        self.console.print(Text(f"\n  {who}", "dim"))
        self.console.print(Text(f"  {command}", "bold green"), soft_wrap=True)

    def answered(self, client: str, seen: str, held: str, again: str, state: str, wrong: str) -> None:
        """What came of it, and what the same text meets afterwards."""
        colour = "green" if state == "Consumed" else "red"
        left = self._panel(f"the agent sees ({client})", seen, colour, wrong)
        self.console.print(self._beside(left, self._panel("the database holds", held, "bright_black", "")))
        self.console.print(self._panel("the same text again, in a transaction", again, "yellow", ""))
        self.console.print(Text("  One approval, one run. Nothing is locked while a person thinks.", "italic dim"))

    def transcript(self, reader: Reader, session: Session) -> None:
        """A session as it is in the record."""
        self.console.print()
        self.console.print(Rule(Text(f"ostiary session {session.id}", "bold cyan"), style="cyan"))
        render(reader, session, self.console, Options(rows=4))

    def verification(self, report: Report, forged: str) -> None:
        """The chain as it is, and after a forgery."""
        self.console.print()
        self.console.print(Rule(Text("ostiary verify", "bold cyan"), style="cyan"))
        self.console.print(
            Text.assemble(
                ("  ✓ " if report.ok else "  ✗ ", "bold green" if report.ok else "bold red"),
                f"{report.sessions} sessions, {report.events} events, {report.seals} signed seals: ",
                "the record is as it was written" if report.ok else str(report.findings[0]),
            )
        )
        self.console.print(
            Text.assemble(
                ("  ✓ " if forged else "  ✗ ", "bold green" if forged else "bold red"),
                "in a copy, somebody turned “drop database shop” into “select 1”: ",
                (visible(forged) or "not noticed", "yellow"),
            )
        )

    def commands(self, groups: Sequence[tuple[str, Sequence[str]]]) -> None:
        """What to try by hand: each command on a line of its own, with nothing around it that would be copied too."""
        self.console.print()
        self.console.print(Rule(Text("Now you", "bold cyan"), style="cyan"))
        for comment, lines in groups:
            self.console.print(Text(f"\n{comment}", "dim"))
            for line in lines:
                self.console.print(Text(line, "bold"), soft_wrap=True)
        self.console.print(Text("\nCtrl-C stops everything and removes it.", "dim"))

    def ending(self, wrong: Sequence[str], scenes: int) -> None:
        """Whether all went as it should."""
        self.console.print()
        if wrong:
            self.console.print(Text("✗ Not as expected:", "bold red"))
            for line in wrong:
                self.console.print(Text(f"  {line}", "red"))
        else:
            self.console.print(Text(f"✓ All {scenes} scenes went as they should.", "bold green"))

    def _head(self, title: str, expect: str) -> None:
        self._number += 1
        head = Text.assemble(
            (f" {self._number} ", "reverse bold"), " ", (title, "bold"), "  ", (expect, COLOURS[expect])
        )
        self.console.print()
        self.console.print(Rule(head, align="left", style="bright_black"))

    def _panel(self, title: str, text: str, colour: str, wrong: str) -> Panel:
        # Tables are cut at the panel's edge, messages are wrapped.
        message = "ERROR" in text or "FATAL" in text
        shown = "\n".join(_brief(line) for line in visible(text, lines=True).split("\n"))
        body: RenderableType = Text(shown, no_wrap=not message, overflow="fold" if message else "ellipsis")
        if wrong:
            body = Group(body, Text(f"\n✗ {wrong}", "bold red"))
        return Panel(body, title=title, title_align="left", border_style=colour, padding=(0, 1))

    def _beside(self, left: Panel, right: Panel) -> RenderableType:
        if self.console.width < 120:
            return Group(left, right)
        grid = Table.grid(expand=True)
        grid.add_column(ratio=1)
        grid.add_column(ratio=1)
        grid.add_row(left, right)
        return grid


def _brief(line: str) -> str:
    """The DETAIL of a denial is for programs, and has a dozen lines: its beginning will do here."""
    return f"{line[:DETAIL_SHOWN]}…" if line.startswith("DETAIL:") and len(line) > DETAIL_SHOWN else line


def _sql(statement: str) -> RenderableType:
    return Syntax(f"  {statement}", "sql", theme="ansi_dark", background_color="default", word_wrap=True)
