"""Which conformance tests ended differently through the gateway than directly: compare.py DIRECT GATEWAY.

The arguments are directories with the reports that `run` made. Exit status 1 if a test passed directly and did not
through the gateway.  compare.py --names DIRECTORY: the tests that ran, for `run`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree


def outcomes(directory: Path) -> dict[str, str]:
    """Test → passed or failed, of those that ran."""
    found: dict[str, str] = {}
    for report in directory.glob("junit*.xml"):
        for case in ElementTree.parse(report).iter("testcase"):
            name, status = str(case.get("name")), str(case.get("status"))
            if name.startswith("[It]") and status not in ("skipped", "interrupted"):
                found[name.removeprefix("[It] ")] = "passed" if status == "passed" else "failed"
    return found


def main() -> int:
    if sys.argv[1] == "--names":
        # As regular expressions, without the labels at the end.
        print("\n".join(re.escape(name.rpartition(" [")[0]) for name in sorted(outcomes(Path(sys.argv[2])))))
        return 0
    direct, gateway = (outcomes(Path(each)) for each in sys.argv[1:3])
    both = direct.keys() & gateway.keys()
    print(f"{len(direct)} ran directly, {len(gateway)} through the gateway, {len(both)} both ways")
    for title, one, other in (("passed both ways", "passed", "passed"), ("failed both ways", "failed", "failed"),
                              ("passed directly only", "passed", "failed"),
                              ("passed through the gateway only", "failed", "passed")):  # fmt: skip
        names = sorted(name for name in both if (direct[name], gateway[name]) == (one, other))
        print(f"{len(names):4} {title}")
        if one != "passed" or other != "passed":
            print("".join(f"       {name}\n" for name in names), end="")
    return int(any(direct[name] == "passed" != gateway[name] for name in both))


if __name__ == "__main__":
    sys.exit(main())
