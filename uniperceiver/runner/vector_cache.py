"""Representations of candidates, kept from one question to the next."""

import threading
from collections.abc import Callable

import numpy as np


class VectorCache:
    """Keeps the arrays that were asked for last; threads may ask at the same time.

    Args:
        limit: entries that are kept; the oldest has to go.
    """

    def __init__(self, limit: int = 32) -> None:
        self._limit, self._lock = limit, threading.Lock()
        self._entries: dict[object, np.ndarray] = {}

    def get(self, key: object, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array of that key; where it is missing it is made, by two threads at once if both miss it."""
        with self._lock:
            if (entry := self._entries.get(key)) is not None:
                return entry
        entry = make()
        with self._lock:
            self._entries[key] = entry
            while len(self._entries) > self._limit:
                self._entries.pop(next(iter(self._entries)))
        return entry
