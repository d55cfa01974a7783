"""The mark that a page gives for the next one: opaque to whoever carries it."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from typing import NamedTuple, Self

_MARK = struct.Struct("<dqq?")


class Mark(NamedTuple):
    """Behind what the next page begins: strictly before this place in the order (begun, session, number)."""

    begun: float
    session: int
    number: int = 0
    slowly: bool = False
    """Step by step through time, since an index over the words did not help."""

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(_MARK.pack(*self)).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Self:
        """ValueError if it is none."""
        try:
            mark = cls(*_MARK.unpack(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))
        except (binascii.Error, struct.error, ValueError) as error:
            raise ValueError("this is not the mark of a page. Begin with the first one.") from error
        if not math.isfinite(mark.begun):
            raise ValueError("this is not the mark of a page. Begin with the first one.")
        return mark
