"""The detectors of a plan, compiled: what is sensitive in a value wherever it stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

import re2

from ostiary_gateway.masking import candidates, grammars, scan
from ostiary_gateway.masking.candidates import Candidates
from ostiary_gateway.masking.json_paths import parse_path
from ostiary_gateway.masking.strategies import Mask, MaskError, compile_strategy
from ostiary_policy.masking import ColumnMask, DetectorMask, JsonPathMask, Strategy, stronger

Spans = list[tuple[int, int]]


class Detector(Protocol):
    """Finds one kind of sensitive text."""

    @property
    def name(self) -> str: ...

    @property
    def verbatim(self) -> bool:
        """True if what it finds has no character that JSON, arrays or records escape in their literals."""

    def could_hit(self, buffer: bytes) -> bool:
        """A necessary condition on any buffer that holds the value verbatim. Cheap."""

    def search(self, buffer: bytes, position: int) -> int:
        """The same from a position on: where the next candidate begins; the buffer's length if nowhere."""

    def spans(self, value: bytes) -> Spans:
        """Where it stands in one value, exactly: ascending, none overlapping, none empty."""




class _Scanner:
    """A detector made of functions."""

    def __init__(
        self,
        name: str,
        could_hit: Callable[[bytes], bool],
        search: Callable[[bytes, int], int],
        spans: Callable[[bytes], Spans],
    ) -> None:
        self.name = name
        self.verbatim = True
        self.could_hit = could_hit
        self.search = search
        self.spans = spans


_ASSERTION = re.compile(r"(?<!\\)(?:\\\\)*\\[bBAzZ]|(?<!\[)\^|\$")
"""Where a pattern may look at what surrounds a value. Finds too much (classes, escapes), never too little."""


class CustomDetector:
    """A pattern of the policy, in RE2's syntax: linear in time on any input."""

    def __init__(self, name: str, pattern: str) -> None:
        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        options.max_mem = 8 << 20
        try:
            self._pattern = re2.compile(pattern, options)
        except re2.error as error:
            raise MaskError(f"detector {name!r}: not a valid RE2 pattern: {error}") from error
        if self._pattern.search(b"") is not None:
            raise MaskError(f"detector {name!r}: the pattern matches the empty string; make it require a character")
        self.name = name
        self.verbatim = False
        # What holds inside a value need not hold inside the buffer if the pattern looks at the value's ends.
        self.local = _ASSERTION.search(pattern) is None

    def could_hit(self, buffer: bytes) -> bool:
        """True where the pattern matches anywhere, or might if it looks at the ends of a value."""
        return not self.local or self._pattern.search(buffer) is not None

    def search(self, buffer: bytes, position: int) -> int:
        """Where the next match begins, or might."""
        if not self.local:
            return position
        match = self._pattern.search(buffer, position)
        return len(buffer) if match is None else int(match.start())

    def spans(self, value: bytes) -> Spans:
        """All matches, leftmost first."""
        return [span for match in self._pattern.finditer(value) if (span := match.span())[0] < span[1]]


def _of_grammar(grammar: grammars.Grammar) -> _Scanner:
    return _Scanner(grammar.name, grammar.could_hit, grammar.search, grammar.spans)


BUILT_IN: dict[str, Callable[[], Detector]] = {
    "CreditCard": lambda: _Scanner("CreditCard", scan.may_hold_card, scan.next_card_candidate, scan.card_spans),
    "Email": lambda: _Scanner("Email", scan.may_hold_email, scan.next_at_sign, scan.email_spans),
    **{grammar.name: (lambda grammar=grammar: _of_grammar(grammar)) for grammar in grammars.GRAMMARS},  # type: ignore[misc]
}
"""Built-in detectors by their name in a policy."""


def compile_detector(mask: DetectorMask) -> Detector:
    """The detector of one mask. MaskError if there is none of that name, or the pattern is no RE2."""
    if mask.pattern:
        return CustomDetector(mask.detector or "custom", mask.pattern)
    make = BUILT_IN.get(mask.detector)
    if make is None:
        raise MaskError(
            f"no detector {mask.detector!r}; there are {', '.join(sorted(BUILT_IN))}, and `pattern` for your own"
        )
    return make()


def problem_of(mask: ColumnMask | JsonPathMask | DetectorMask) -> tuple[str, str] | None:
    """Why a mask cannot be applied: the field at fault, and what is wrong with it. None if it can."""
    try:
        compile_strategy(mask.strategy)
    except MaskError as error:
        return "strategy", str(error)
    if isinstance(mask, JsonPathMask):
        try:
            parse_path(mask.path)
        except MaskError as error:
            return "jsonPath", str(error)
    if isinstance(mask, DetectorMask):
        try:
            compile_detector(mask)
        except MaskError as error:
            return "pattern.regex" if mask.pattern else "detector", str(error)
    return None


class Detectors:
    """All detectors of a plan. Falsy if there are none."""

    def __init__(self, masks: Sequence[DetectorMask]) -> None:
        self._masks = tuple(masks)
        self._detectors = [(compile_detector(mask), mask.strategy) for mask in masks]
        self._masks_of: dict[tuple[Strategy, bool], Mask] = {}
        for _, strategy in self._detectors:
            self._shown(strategy, False)
            self._shown(strategy, True)
        self.verbatim = all(detector.verbatim for detector, _ in self._detectors)
        self._patterns = [detector for detector, _ in self._detectors if isinstance(detector, CustomDetector)]
        bits = sum(candidates.BITS.get(name, 0) for name in {mask.detector for mask in masks if not mask.pattern})
        self.candidates = Candidates(grammars.IBAN_COUNTRIES, bits) if bits else None
        """Looks for those that have neither a native scan of their own nor a pattern of the policy."""
        self.names = frozenset("" if mask.pattern else mask.detector for mask in masks)
        """The built-in ones by name; "" stands for patterns of the policy."""
        self.finds_digits = any(mask.pattern or mask.detector == "CreditCard" for mask in masks)
        """True if a bare number may be a hit."""

    def __bool__(self) -> bool:
        return bool(self._detectors)

    def could_hit(self, buffer: bytes) -> bool:
        """False only if no value that stands verbatim in the buffer has a hit."""
        return any(detector.could_hit(buffer) for detector, _ in self._detectors)

    def hits(self, value: bytes) -> bool:
        """True if any detector finds something in this one value."""
        return any(detector.could_hit(value) and detector.spans(value) for detector, _ in self._detectors)

    def spans(self, value: bytes) -> Spans:
        """Where anything is found in this one value: ascending, none overlapping."""
        found = sorted(
            span for detector, _ in self._detectors if detector.could_hit(value) for span in detector.spans(value)
        )
        merged: Spans = []
        for start, end in found:
            if merged and start < merged[-1][1]:
                merged[-1] = merged[-1][0], max(end, merged[-1][1])
            else:
                merged.append((start, end))
        return merged

    def custom_hits(self, value: bytes) -> bool:
        """True if a pattern of the policy matches this one value."""
        return any(detector.spans(value) for detector in self._patterns)

    def custom(self) -> Detectors:
        """Only the patterns of the policy."""
        return Detectors([mask for mask in self._masks if mask.pattern])

    def only(self, *names: str) -> Detectors:
        """Only these built-in ones, and the patterns of the policy."""
        return Detectors([mask for mask in self._masks if mask.pattern or mask.detector in names])

    def strategy(self, name: str) -> Strategy | None:
        """Of a built-in detector; None if it is not among these."""
        return next((mask.strategy for mask in self._masks if not mask.pattern and mask.detector == name), None)

    @property
    def anywhere(self) -> bool:
        """True if a pattern may match in a value where it matches nowhere in the buffer around it."""
        return any(not detector.local for detector in self._patterns)

    @property
    def searches(self) -> bool:
        """True if there are patterns of the policy."""
        return bool(self._patterns)

    def searcher(self, buffer: bytes) -> Callable[[int], int]:
        """Where from a position on, which may only grow, the next match of a pattern begins; the buffer's length if
        nowhere."""
        detectors = self._patterns
        nexts = [-1] * len(detectors)

        def search(position: int) -> int:
            for index, detector in enumerate(detectors):
                if nexts[index] < position:
                    nexts[index] = detector.search(buffer, position)
            return min(nexts)

        return search

    def over(self, strategy: Strategy) -> Mask:
        """The mask of a column whose values may be hits as well: the stronger wins, on the whole value."""

        def mask(value: bytes) -> bytes | None:
            wins = strategy
            for detector, other in self._detectors:
                if detector.could_hit(value) and detector.spans(value):
                    wins = stronger(wins, other)
            return self._shown(wins, False)(value)

        return mask

    def _shown(self, strategy: Strategy, card: bool) -> Mask:
        # Where masks meet there are strategies that no policy has: few, since they come of those that policies have.
        key = strategy, card
        if (found := self._masks_of.get(key)) is None:
            found = self._masks_of[key] = compile_strategy(strategy, card=card)
        return found

    def mask(self, value: bytes) -> bytes | None:
        """The value with everything found replaced; the same object if nothing was, None if it becomes NULL."""
        found: list[tuple[int, int, Strategy, bool]] = []
        for detector, strategy in self._detectors:
            if detector.could_hit(value):
                card = detector.name == "CreditCard" and detector.verbatim
                found.extend((start, end, strategy, card) for start, end in detector.spans(value))
        if not found:
            return value
        pieces: list[bytes] = []
        position = 0
        for start, end, strategy, card in _merge(found):
            shown = self._shown(strategy, card)(value[start:end])
            if shown is None:
                return None
            pieces += (value[position:start], shown)
            position = end
        pieces.append(value[position:])
        return b"".join(pieces)


def _merge(found: list[tuple[int, int, Strategy, bool]]) -> list[tuple[int, int, Strategy, bool]]:
    """Overlapping hits as one, under the stronger strategy."""
    found.sort(key=lambda hit: hit[:2])
    merged = [found[0]]
    for start, end, strategy, card in found[1:]:
        last_start, last_end, last_strategy, last_card = merged[-1]
        if start < last_end:
            both = card and last_card
            merged[-1] = (last_start, max(end, last_end), stronger(last_strategy, strategy), both)
        else:
            merged.append((start, end, strategy, card))
    return merged


__all__ = ["BUILT_IN", "CustomDetector", "Detector", "Detectors", "Mask", "compile_detector", "problem_of"]
