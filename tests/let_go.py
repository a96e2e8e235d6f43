"""Errors whose frames hold loader processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import clear_frames


@contextmanager
def let_go() -> Iterator[None]:
    """What an error's frames hold is let go here: as garbage, workers would be waited for, 5 seconds each."""
    try:
        yield
    except Exception as error:
        clear_frames(error.__traceback__)
        raise
