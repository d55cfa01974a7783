"""What a session is refused under any policy, once it is known what its statement does. No I/O."""

from __future__ import annotations

from typing import Final

from .state import Denial

MOVED: Final = Denial(
    "55000", "The search_path or the role is not what it was when the cursor was made, or that cannot be told.",
    hint="Set them back, or make the cursor again.",
)  # fmt: skip
CHANGED: Final = Denial(
    "55000", "Tables or views were changed since the cursor was made, so its columns cannot be masked any more.",
    hint="Make the cursor again.",
)  # fmt: skip
COPIES: Final = Denial(
    "42501", "The statement would write values of a masked column to where no mask follows them.",
    hint="Leave the masked columns out of what is written.",
)  # fmt: skip
COPY_UNSURE: Final = Denial(
    "42501", "COPY cannot be masked while this session has temporary objects or uncommitted DDL.",
    hint="Use SELECT, or COPY from a new session.",
)  # fmt: skip
