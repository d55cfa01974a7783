"""The same examples in every run of `make test`: a failure is a change of the code, never chance."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
