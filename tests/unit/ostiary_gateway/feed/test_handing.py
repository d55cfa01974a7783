"""What a gateway tells of its record on its way to the store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import click
import pytest
from click.testing import CliRunner

from ostiary_cli.shipping_options import handing_options
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_gateway.audit.shipper import Shipped
from ostiary_gateway.audit.store_client import ShipTo
from ostiary_gateway.counters import Counters
from ostiary_gateway.feed.handing import Handed, Handing, handing_over


class Shipper:
    """As it is just now."""

    def __init__(self) -> None:
        self.shipped = Shipped()
        self.waiting = 0
        self.lag = 0.0

    def message(self) -> str:
        return self.shipped.trouble


def test_without_a_store_there_is_nothing_to_tell() -> None:
    handed = Handed(None)
    assert handed.checks() == []
    assert handed.state().state == "Off"


def test_the_operator_hears_of_trouble_that_lasts() -> None:
    shipper = Shipper()
    handed = Handed(cast("Any", shipper))
    assert handed.state().state == "Shipping"
    shipper.waiting, shipper.lag = 5000, 30.0
    assert (handed.state().state, handed.state().behind_bytes) == ("Behind", 5000)
    shipper.shipped.trouble, shipper.shipped.since = "the store cannot be reached", time.time()
    assert (handed.state().state, handed.state().message) == ("Behind", "")
    shipper.shipped.since -= 61
    state = handed.state()
    assert (state.state, state.message) == ("Failing", "the store cannot be reached")
    assert state.since is not None
    (check,) = handed.checks()
    assert check.ok  # what waits is safe here: agents need not go elsewhere
    assert check.message == "the store cannot be reached"
    shipper.shipped.trouble, shipper.waiting, shipper.lag = "", 0, 0.0
    assert handed.state().state == "Shipping"


async def test_the_counters_look_at_it(tmp_path: Path) -> None:
    recorder = await FileRecorder.open(tmp_path / "audit.db")
    counters = Counters()
    to = ShipTo("http://127.0.0.1:1", tmp_path / "none.crt")
    async with handing_over(Handing(to, grace=0.1), recorder, counters, gateway="host", instance="host"):
        await recorder.close()
    assert counters.ship_waiting() > 0
    assert counters.record_held() == recorder.position - 64


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ship-to", "http://elsewhere"], "without TLS"),
        (["--ship-to", "nonsense"], "is no URL of a store"),
        (["--ship-ca", "x"], "go with --ship-to"),
        (["--keep-local", "much"], "not a size in bytes"),
        (["--ship-to", "https://s", "--keep-local", "2Gi", "--spool-limit", "1Gi"], "must be less than --spool-limit"),
        (
            ["--ship-to", "https://s", "--keep-local", "1Gi", "--spool-limit", "2Gi"],
            "keep=1073741824, limit=2147483648",
        ),
        (["--ship-to", "https://s", "--keep-local", "all"], "keep=None, limit=0"),
        (["--keep-local", "1Mi"], "to=None"),
        ([], "to=None, grace=10.0, keep=None, limit=0"),
    ],
)
def test_options_that_do_not_fit_are_named(arguments: list[str], said: str) -> None:
    @click.command()
    @handing_options("512Mi")
    def command(handing: Handing) -> None:
        click.echo(repr(handing))

    assert said in CliRunner().invoke(command, arguments).output
