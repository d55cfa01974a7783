"""The API server's process, to be killed and stopped: only of a control plane that was brought up on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.cluster import SCRIPTS, Cluster


@dataclass(frozen=True)
class ApiServer:
    """One API server."""

    cluster: Cluster
    pid_file: Path

    def restart(self) -> None:
        """Kill it, and start it again; returns when it answers."""
        done = subprocess.run(
            [str(SCRIPTS / "restart"), "--control-plane", "kube-apiserver"],
            env=self.cluster.environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Its connections stay open, and nothing comes through them."""
        process = int(self.pid_file.read_text().split()[0])
        os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(process, signal.SIGCONT)


def api_server(cluster: Cluster) -> ApiServer | None:
    """The process behind the cluster's address; None if it is somebody else's."""
    state = cluster.environment.get("CLUSTER_STATE")
    if not state:
        return None
    pid_file = Path(state) / "control-plane" / "pid" / "kube-apiserver"
    return ApiServer(cluster, pid_file) if pid_file.exists() else None
