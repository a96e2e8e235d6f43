"""Representations of candidates, kept from one question to the next."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

from torch import Tensor

from uniperceiver.model.model import Generalist


class CandidateCache:
    """Keeps the representations of candidate sets at inference until the model's weights change.

    Which weights they were made with is told by `Generalist.weights_generation`, which loading, moving (`.to()`),
    training and averaging raise. Whoever changes weights in place by hand must call `Generalist.weights_changed()`
    afterwards; without it, answers go on with candidates of the old weights.

    Threads may ask at the same time: each entry is made once, by the first that asks, and the others wait for it.

    Args:
        limit: entries that are kept; the oldest has to go.
    """

    def __init__(self, limit: int = 32) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._generation = -1
        self._entries: dict[object, Future[Tensor]] = {}

    def __reduce__(self) -> tuple[type["CandidateCache"], tuple[int]]:
        """A copy, also one for another process, begins empty."""
        return CandidateCache, (self._limit,)

    def get(self, key: object, model: Generalist, make: Callable[[], Tensor]) -> Tensor:
        """The entry of that key, made by `make` where it is missing or the weights have changed.

        Args:
            key: whatever identifies the texts, and the facts that routing sees.

        Raises:
            BaseException: whatever `make` raises, in all threads that wait for it; the next one tries again.
        """
        with self._lock:
            if model.weights_generation != self._generation:
                # An entry that is being made with the old weights reaches those who wait for it, and nobody else.
                self._entries.clear()
                self._generation = model.weights_generation
            is_new = key not in self._entries
            if is_new:
                while len(self._entries) >= self._limit:
                    self._entries.pop(next(iter(self._entries)))
                self._entries[key] = Future()
            entry = self._entries[key]
        if is_new:
            try:
                entry.set_result(make())
            except BaseException as error:
                with self._lock:
                    if self._entries.get(key) is entry:
                        del self._entries[key]
                entry.set_exception(error)
        return entry.result()
