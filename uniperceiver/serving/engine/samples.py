"""Samples that are asked about, whose files are read batch by batch."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import overload

from uniperceiver.records import Sample


@dataclass(frozen=True)
class ReadWhenAsked(Sequence[Sample]):
    """Samples whose files are read when they are looked at, so that any number of them costs the memory of a batch."""

    reads: tuple[Callable[[], Sample], ...]

    def __len__(self) -> int:
        return len(self.reads)

    @overload
    def __getitem__(self, place: int) -> Sample: ...

    @overload
    def __getitem__(self, place: slice) -> "ReadWhenAsked": ...

    def __getitem__(self, place: int | slice) -> "Sample | ReadWhenAsked":
        return ReadWhenAsked(self.reads[place]) if isinstance(place, slice) else self.reads[place]()

    def changed(self, change: Callable[[Sample, int], Sample]) -> "ReadWhenAsked":
        """The same samples, each of them changed by a function of it and its place once it is read."""

        def read_and_change(read: Callable[[], Sample], place: int) -> Sample:
            return change(read(), place)

        return ReadWhenAsked(tuple(partial(read_and_change, read, place) for place, read in enumerate(self.reads)))


def samples_at_hand(samples: Iterable[Sample]) -> ReadWhenAsked:
    """Samples that need not be read."""
    return ReadWhenAsked(tuple(partial(same, sample) for sample in samples))


def same(sample: Sample) -> Sample:
    """The sample itself."""
    return sample
