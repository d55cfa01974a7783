"""What the compiled scan of rows must know of a plan's detectors."""

from __future__ import annotations

from collections.abc import Callable

from ostiary_gateway.masking.candidates import Candidates
from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.masking.strategies import compile_strategy
from ostiary_gateway.protocols.postgres._cells import Show
from ostiary_policy.masking import Strategy

_CALL, _PARTIAL, _CONSTANT, _NULL = range(4)

Searcher = Callable[[bytes], Callable[[int], int]]


def show(strategy: Strategy | None, escape: Callable[[bytes], bytes], *, card: bool) -> Show | None:
    """How the scan shows what a detector found, written with `escape`; None without a strategy."""
    if strategy is None:
        return None
    plain = compile_strategy(strategy, card=card)
    char = strategy.char.encode()

    def mask(value: bytes) -> bytes | None:
        shown = plain(value)
        return None if shown is None else escape(shown)

    if strategy.type == "Null":
        return Show(_NULL, 0, 0, 0, b"", mask)
    if strategy.type == "Redact":
        return Show(_CONSTANT, 0, 0, 0, escape(strategy.replacement.encode()), mask)
    if strategy.type == "Partial" and len(char) == 1 and escape(char) == char:
        return Show(_PARTIAL, strategy.keep_first, strategy.keep_last, char[0], b"", mask)
    return Show(_CALL, 0, 0, 0, b"", mask)


def as_it_is(value: bytes) -> bytes:
    return value


def native(
    detectors: Detectors, escape: Callable[[bytes], bytes] = as_it_is
) -> tuple[Show | None, Show | None, Candidates | None, Searcher | None, bool]:
    """The arguments of `Cells` behind kinds and masks. `escape`: how a text is written if it may not stand as it is."""
    return (
        show(detectors.strategy("CreditCard"), escape, card=True),
        show(detectors.strategy("Email"), escape, card=False),
        detectors.candidates,
        detectors.searcher if detectors.searches else None,
        detectors.anywhere,
    )
