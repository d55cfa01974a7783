"""The table of ways in which a masked value might leave. Writes it into docs/masking.md (--write)."""

from __future__ import annotations

import sys
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs" / "masking.md"
BEGIN, END = "<!-- tests/support/mask_cases.py writes from here -->", "<!-- to here, the cases -->"

NAME, EMAIL, CARD = "Roberta Zimmermann", "zimmerwoman@mail.example", "5425-2334-3010-9903"
PAN: Final = CARD.replace("-", "")

TABLES: Final = f"""
    CREATE TABLE people (
        id int PRIMARY KEY, name text UNIQUE, email text, card text, pan bigint, num numeric, doc jsonb, tags text[],
        vec tsvector, props text, raw bytea
    );
    CREATE TABLE mails (email text UNIQUE);
    INSERT INTO people VALUES (
        1, '{NAME}', '{EMAIL}', '{CARD}', {PAN}, {PAN}.5, '{{"mail": "{EMAIL}", "cards": [{PAN}, "{CARD}"]}}',
        '{{"{EMAIL}","{CARD}"}}', to_tsvector('simple', '{EMAIL}'),
        '"mail"=>"{EMAIL}", "card"=>"{PAN}"', 'paid with {CARD} by {EMAIL}'
    );
    INSERT INTO people (id, name, email, card) SELECT 2, name || ' II', email, card FROM people;
    INSERT INTO mails VALUES ('{EMAIL}');
    CREATE VIEW listed AS SELECT id, name AS who, upper(name) AS loud, email AS mail, card FROM people;
    CREATE VIEW listed_again AS SELECT who || '!' AS shout, mail, card FROM listed;
    CREATE FUNCTION name_of(n int) RETURNS text LANGUAGE sql STABLE AS 'SELECT name FROM people WHERE id = n';
    CREATE FUNCTION first_name() RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT min(name) FROM people';
    ANALYZE people;
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One statement, or several."""

    way: str
    sql: str

    @property
    def single(self) -> bool:
        """It is one statement, so that it can be sent in the extended protocol too."""
        return "; " not in self.sql.partition("$$")[0]


def cases() -> list[Case]:
    """All of the table."""
    entries = yaml.safe_load((ROOT / "tests" / "corpus" / "masks.yaml").read_text(encoding="utf-8"))
    return [Case(entry["way"], sql) for entry in entries for sql in entry["sql"]]


def told(shown: bytes) -> list[str]:
    """Which secrets can be read in bytes: six characters in a row of one, in several spellings."""
    text = shown.decode("latin-1").lower()
    found = []
    for secret in (NAME, EMAIL, CARD, PAN):
        pieces = {secret.lower()[i : i + 6] for i in range(len(secret) - 5)}
        spelled = {*pieces, *(piece[::-1] for piece in pieces), *(piece.encode().hex() for piece in pieces)}
        spelled |= {secret.upper()[i : i + 6].encode().hex() for i in range(len(secret) - 5)}
        spelled |= {secret[i : i + 6].encode().hex() for i in range(len(secret) - 5)}
        spelled.add(b64encode(secret.encode())[:8].decode().lower())
        if any(piece in text for piece in spelled):
            found.append(secret)
    if int(PAN).to_bytes(8, "big") in shown:
        found.append("the card's number as an int8")
    return found


def table() -> str:
    """The cases in Markdown."""
    rows = ["| way | statements |", "| --- | --- |"]
    by_way: dict[str, list[str]] = {}
    for case in cases():
        by_way.setdefault(case.way, []).append("`" + case.sql.replace("|", "\\|") + "`")
    return "\n".join((*rows, *(f"| {way} | {'<br>'.join(texts)} |" for way, texts in by_way.items())))


def document(text: str) -> str:
    """The page with the table of now."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END, 1)[1]}"


if __name__ == "__main__" and "--write" in sys.argv:
    DOCS.write_text(document(DOCS.read_text(encoding="utf-8")), encoding="utf-8")
