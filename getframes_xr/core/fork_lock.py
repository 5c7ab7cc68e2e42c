"""A lock that no fork takes along while it is held: torch's DataLoader and ``multiprocessing`` fork at will."""

from __future__ import annotations

import os
import threading


class ForkLock:
    """A re-entrant lock, new in every forked child; for caches that live as long as the process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        os.register_at_fork(after_in_child=self._anew)

    def _anew(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
