"""The ORM and reflection of SQLAlchemy over psycopg and asyncpg. The server comes from the PG… variables."""

from __future__ import annotations

import asyncio
import datetime
import os
import sys
from decimal import Decimal

import sqlalchemy as sa
from report import Report
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "orm_customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(80), unique=True)
    tags: Mapped[list[str]] = mapped_column(ARRAY(sa.Text), default=list)
    extra: Mapped[dict[str, object]] = mapped_column(JSONB, default=dict)
    orders: Mapped[list[Order]] = relationship(back_populates="customer", cascade="all, delete-orphan")


class Order(Base):
    __tablename__ = "orm_orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("orm_customers.id"), index=True)
    total: Mapped[Decimal] = mapped_column(sa.Numeric(10, 2))
    at: Mapped[datetime.datetime] = mapped_column(sa.DateTime(timezone=True))
    customer: Mapped[Customer] = relationship(back_populates="orders")


def url(driver: str) -> sa.URL:
    environment = os.environ
    query = {"sslmode": environment["PGSSLMODE"]} if driver == "psycopg" else {"ssl": environment["PGSSLMODE"]}
    return sa.URL.create(
        f"postgresql+{driver}",
        environment["PGUSER"],
        environment["PGPASSWORD"],
        environment["PGHOST"],
        int(environment["PGPORT"]),
        environment["PGDATABASE"],
        query,
    )


def customers(count: int) -> list[Customer]:
    at = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    return [
        Customer(
            name=f"customer {n}",
            tags=["new", f"t{n}"],
            extra={"n": n},
            orders=[Order(total=Decimal(n) + Decimal(k) / 4, at=at) for k in range(3)],
        )
        for n in range(count)
    ]


def work(session: Session, report: Report) -> None:
    session.add_all(customers(40))
    session.commit()
    statement = sa.select(Customer).options(selectinload(Customer.orders)).order_by(Customer.id).limit(2)
    report.saw(
        "loaded", [[c.name, c.tags, c.extra, [[o.total, o.at] for o in c.orders]] for c in session.scalars(statement)]
    )
    report.saw(
        "joined",
        [
            list(row)
            for row in session.execute(
                sa.select(Customer.name, sa.func.sum(Order.total))
                .join(Order)
                .group_by(Customer.name)
                .order_by(Customer.name)
                .limit(3)
            )
        ],
    )
    report.saw("by JSON", session.scalars(sa.select(Customer.name).where(Customer.extra["n"].as_integer() == 7)).all())
    report.saw("by array", session.scalars(sa.select(Customer.name).where(Customer.tags.contains(["t3"]))).all())
    session.execute(
        insert(Customer)
        .values(name="customer 1", tags=[], extra={})
        .on_conflict_do_update(index_elements=["name"], set_={"tags": ["seen"]})
    )
    report.saw("upsert", session.scalars(sa.select(Customer.tags).where(Customer.name == "customer 1")).all())
    first = session.scalars(sa.select(Customer).order_by(Customer.id)).first()
    assert first is not None
    first.name = "renamed"
    session.flush()
    session.delete(first)
    session.commit()
    report.saw("counts", [session.scalar(sa.select(sa.func.count()).select_from(t)) for t in (Customer, Order)])
    session.add(Customer(name="customer 2"))
    try:
        session.commit()
    except sa.exc.IntegrityError as failure:
        session.rollback()
        report.saw("unique", [type(failure).__name__, getattr(failure.orig, "sqlstate", None)])
    with session.begin_nested():
        session.add(Customer(name="nested"))
    session.rollback()
    report.saw(
        "streamed",
        sum(1 for _ in session.execute(sa.select(Order.id).execution_options(stream_results=True, max_row_buffer=10))),
    )


def inspected(connection: sa.Connection) -> object:
    inspector = sa.inspect(connection)
    return [
        {
            "table": name,
            "columns": [[c["name"], str(c["type"]), c["nullable"], c["default"]] for c in inspector.get_columns(name)],
            "primary": inspector.get_pk_constraint(name)["constrained_columns"],
            "foreign": [[f["constrained_columns"], f["referred_table"]] for f in inspector.get_foreign_keys(name)],
            "unique": [u["column_names"] for u in inspector.get_unique_constraints(name)],
            "indexes": [[i["name"], i["column_names"]] for i in inspector.get_indexes(name)],
        }
        for name in sorted(inspector.get_table_names())
        if name.startswith("orm_")
    ]


def with_psycopg(report: Report) -> None:
    engine = sa.create_engine(url("psycopg"), pool_size=3, pool_pre_ping=True)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        work(session, report)
    with engine.connect() as connection:
        report.saw("reflection", inspected(connection))
        reflected = sa.MetaData()
        reflected.reflect(connection)
        report.saw("tables", sorted(name for name in reflected.tables if name.startswith("orm_")))
    Base.metadata.drop_all(engine)
    engine.dispose()


async def with_asyncpg(report: Report) -> None:
    engine = create_async_engine(url("asyncpg"))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        await session.run_sync(work, report)
    async with engine.begin() as connection:
        report.saw("reflection", await connection.run_sync(inspected))
        await connection.run_sync(Base.metadata.drop_all)
    await engine.dispose()


def main(driver: str) -> None:
    report = Report(f"sqlalchemy+{driver}")
    if driver == "psycopg":
        with_psycopg(report)
    else:
        asyncio.run(with_asyncpg(report))
    report.print()


if __name__ == "__main__":
    main(sys.argv[1])
