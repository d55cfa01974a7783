"""`python -m ostiary_operator` is the `ostiary-operator` command."""

from __future__ import annotations

from ostiary_operator.main import main

main()
