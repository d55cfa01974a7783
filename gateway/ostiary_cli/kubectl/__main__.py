"""`python -m ostiary_cli.kubectl` is the command `kubectl ostiary`."""

from ostiary_cli.kubectl.main import run

run()
