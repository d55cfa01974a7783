"""`python -m ostiary_cli` is `ostiary`."""

from __future__ import annotations

from ostiary_cli.main import main

main()
