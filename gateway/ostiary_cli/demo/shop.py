"""The shop's database: customers, cards and orders, made up, the same in every run."""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from dataclasses import dataclass

import asyncpg

CUSTOMERS = 2_000
ORDERS = 6_000
ROLE = "shop"
DATABASE = "shop"

SCHEMA = """
create table customers (
    id integer primary key, name text not null, email text not null unique, city text not null, since date not null);
create table cards (
    id integer primary key, customer_id integer not null references customers, brand text not null,
    number text not null, cvc text not null, expires text not null);
create table orders (
    id integer primary key, customer_id integer not null references customers, placed_at timestamptz not null,
    total numeric(10, 2) not null, status text not null, note text not null);
create index on cards (customer_id);
create index on orders (customer_id);
"""

_FIRST = ("Ada", "Alan", "Barbara", "Claude", "Dana", "Edsger", "Frances", "Grace", "Hedy", "Ken", "Leslie", "Radia")
_LAST = ("Almeida", "Brandt", "Castillo", "Dubois", "Eriksen", "Fischer", "Haddad", "Ito", "Jansen", "Moreau", "Novak")
_CITIES = ("Lisbon", "Oslo", "Turin", "Ghent", "Porto", "Graz", "Aarhus", "Lyon", "Leeds", "Brno")
_BRANDS = (("Visa", "4", 16), ("Mastercard", "53", 16), ("Amex", "37", 15))
_STATUS = ("placed", "paid", "packed", "shipped", "delivered")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the database is, and a superuser's way in."""

    host: str
    port: int
    user: str
    password: str


async def build(place: Place, role_password: str) -> None:
    """Make the role, the database and its rows."""
    server = await asyncpg.connect(
        host=place.host, port=place.port, user=place.user, password=place.password, database="postgres"
    )
    try:
        # The password is ours, of URL-safe characters: nothing in it needs quoting.
        await server.execute(f"create role {ROLE} login password '{role_password}'")
        await server.execute(f"create database {DATABASE} owner {ROLE}")
    finally:
        await server.close()
    shop = await asyncpg.connect(host=place.host, port=place.port, user=ROLE, password=role_password, database=DATABASE)
    try:
        await shop.execute(SCHEMA)
        rows = random.Random("ostiary")
        customers = list(_customers(rows))
        cards = list(_cards(rows))
        orders = list(_orders(rows, [str(card[3]) for card in cards], [str(customer[2]) for customer in customers]))
        await shop.copy_records_to_table("customers", records=customers)
        await shop.copy_records_to_table("cards", records=cards)
        await shop.copy_records_to_table("orders", records=orders)
        await shop.execute("analyze")
    finally:
        await shop.close()


def luhn(prefix: str, length: int, rows: random.Random) -> str:
    """A card number with this prefix that passes the Luhn check (ISO/IEC 7812-1)."""
    digits = [int(digit) for digit in prefix] + [rows.randrange(10) for _ in range(length - len(prefix) - 1)]
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = digit * 2 if place % 2 == 0 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return "".join(map(str, digits)) + str(-total % 10)


def _customers(rows: random.Random) -> Iterator[tuple[object, ...]]:
    for number in range(1, CUSTOMERS + 1):
        first, last = rows.choice(_FIRST), rows.choice(_LAST)
        since = datetime.date(2018, 1, 1) + datetime.timedelta(rows.randrange(3000))
        yield number, f"{first} {last}", f"{first}.{last}{number}@mail.example".lower(), rows.choice(_CITIES), since


def _cards(rows: random.Random) -> Iterator[tuple[object, ...]]:
    for number in range(1, CUSTOMERS + 1):
        brand, prefix, length = rows.choice(_BRANDS)
        expires = f"{rows.randrange(1, 13):02}/{rows.randrange(27, 32)}"
        cvc = f"{rows.randrange(10_000 if brand == 'Amex' else 1_000):0{4 if brand == 'Amex' else 3}}"
        yield number, number, brand, luhn(prefix, length, rows), cvc, expires


def _orders(rows: random.Random, numbers: list[str], emails: list[str]) -> Iterator[tuple[object, ...]]:
    begin = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    for number in range(1, ORDERS + 1):
        customer = rows.randrange(CUSTOMERS)
        note = ""
        if number % 50 == 3:
            note = f"Card {numbers[customer]} declined: {emails[customer]}"
        elif number % 7 == 0:
            note = "Leave at the door"
        placed = begin + datetime.timedelta(minutes=rows.randrange(400_000))
        total = rows.randrange(500, 40_000)
        yield number, customer + 1, placed, f"{total / 100:.2f}", rows.choice(_STATUS), note
