"""How long it takes to read a command line, in pairs with the parse of tree-sitter alone.

    python benchmarks/ssh_commands.py [--rounds 5] [--count 2000]

Nothing is cached: the facts are worked out anew each time. µs of CPU a line, the best round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from ostiary_gateway.protocols.ssh import commands
from ostiary_gateway.protocols.ssh.command_second import _PARSER

LINES = (
    "uptime",
    "systemctl restart nginx",
    "ls -la /var/log | grep x",
    "sudo journalctl -u a --since today",
    "df -h / | tail -1 | awk '{print $5}'",
    "sudo -u app bash -c 'cd /srv && ls -la'",
    "find /var/log -name '*.log' -mtime +7 -exec rm -f {} \\;",
    "cat > /etc/x.conf <<'EOF'\na = 1\nb = 2\nEOF",
    'for i in 1 2 3; do systemctl is-active "$i" || exit 1; done',
    'echo "load: $(cut -d" " -f1 /proc/loadavg)"',
)


def best(work: Callable[[], object], rounds: int, count: int) -> float:
    shortest = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(count):
            work()
        shortest = min(shortest, time.process_time() - start)
    return shortest / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=2000)
    options = parser.parse_args()
    table = Table("line", "facts", "from memory", "tree-sitter's parse", "ratio")
    for line in LINES:
        data = line.encode()
        facts = best(lambda: commands._facts(line), options.rounds, options.count)  # noqa: B023
        again = best(lambda: commands.command_facts(line), options.rounds, options.count)  # noqa: B023
        parse = best(lambda: _PARSER.parse(data), options.rounds, options.count)  # noqa: B023
        table.add_row(
            line.partition("\n")[0][:60], f"{facts:.1f}", f"{again:.2f}", f"{parse:.1f}", f"{facts / parse:.1f}"
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
