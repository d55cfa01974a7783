"""A gateway that allows everything, before the cluster of KUBECONFIG, until it is ended. Writes a kubeconfig for it:
gateway.py FILE."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from support import api_gateway
from support.cluster import Cluster


def main() -> None:
    made = api_gateway.prepare(api_gateway.plane(Cluster(dict(os.environ))), limits={"maxSessions": 2000})
    try:
        made.start()
        shutil.copy(made.kubeconfig(), sys.argv[1])
        print(f"{made.url}, process {made.pid}, log {made.log}", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
        print(f"resident memory {made.resident() / 1e6:.0f} MB")
    finally:
        made.destroy()


if __name__ == "__main__":
    main()
