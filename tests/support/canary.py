"""A session that works all the time, to show that what others do does not harm it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from support.wire import Wire


@dataclass(slots=True)
class Canary:
    """Queries in a loop until stopped. `slowest` is in seconds; `failure` is the first thing that went wrong."""

    login: Callable[[], Wire]
    pause: float = 0.02
    count: int = 0
    slowest: float = 0.0
    failure: BaseException | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Canary:
        wire = self.login()
        self._thread = threading.Thread(target=self._run, args=(wire,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(60)
            self._thread = None

    def _run(self, wire: Wire) -> None:
        try:
            while not self._stop.is_set():
                begun = time.monotonic()
                expected = str(self.count)
                rows = wire.rows(f"select {expected}, 'canary'")
                if rows != [[expected, "canary"]]:
                    raise AssertionError(f"asked for {expected}, got {rows}")
                self.slowest = max(self.slowest, time.monotonic() - begun)
                self.count += 1
                self._stop.wait(self.pause)
        except BaseException as failure:  # noqa: BLE001 it is told by check()
            self.failure = failure
        finally:
            wire.close()

    def check(self, slowest: float = 5.0, least: int = 3) -> None:
        """Stop, and fail unless every query was answered rightly and in time."""
        deadline = time.monotonic() + slowest
        while self.count < least and self.failure is None and time.monotonic() < deadline:
            time.sleep(0.01)
        self.stop()
        if self.failure is not None:
            raise AssertionError(f"the canary died after {self.count} queries") from self.failure
        assert self.count >= least, f"the canary made only {self.count} queries"
        assert self.slowest < slowest, f"a query of the canary took {self.slowest:.2f} s"
