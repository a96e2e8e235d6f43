"""Vectors of candidates are made once, and the newest of them stay."""

import numpy as np

from uniperceiver.runner.vector_cache import VectorCache


def test_the_newest_stay_and_the_oldest_go() -> None:
    cache, made = VectorCache(limit=2), list[str]()

    def get(key: str) -> np.ndarray:
        def make() -> np.ndarray:
            made.append(key)
            return np.array([ord(key)])

        return cache.get(key, make)

    for key in "aabcbc":
        assert get(key) == ord(key)
    assert made == ["a", "b", "c"]  # c took the place of a
    get("a")
    assert made == ["a", "b", "c", "a"]
