"""A part of another source."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from uniperceiver.errors import UserError
from uniperceiver.records import Sample
from uniperceiver.streams import numpy_stream
from uniperceiver.strict import record

if TYPE_CHECKING:
    from uniperceiver.data.formats import Source


@record
class PartConfig:
    """Keys of every format: which part of its samples is taken."""

    part: tuple[float, float] = (0.0, 1.0)
    """From which share of the samples to which, in an order drawn by `part_seed`: [0, 0.8] to train, [0.8, 1] to
    evaluate."""
    part_seed: int = 0
    """Another number, other samples in each part."""

    def bounds(self, where: str) -> tuple[float, float]:
        """The two shares.

        Raises:
            UserError: they are no part.
        """
        first, last = self.part
        if not 0 <= first < last <= 1:
            raise UserError(f"{where}: part: expected two shares such as [0, 0.8], found [{first:g}, {last:g}]")
        return first, last


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some of the samples of a source, with all of its classes."""

    whole: "Source"
    index_N: np.ndarray  # int64, ascending

    @property
    def classes(self) -> tuple[tuple[str, ...], ...] | None:
        """Texts per class, also of classes that have no sample here."""
        return self.whole.classes

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What the files of the whole call the classes; None where they say nothing else than the texts."""
        names: tuple[str, ...] | None = getattr(self.whole, "class_names", None)
        return names

    def __len__(self) -> int:
        return len(self.index_N)

    def read(self, index: int) -> Sample:
        """The sample of the whole."""
        return self.whole.read(int(self.index_N[index]))

    def texts(self) -> Iterator[str]:
        """The texts of the whole: its files are not read again to find out which of them are in this part."""
        return self.whole.texts()


def part_of(source: "Source", first: float, last: float, seed: int, where: str) -> "Source":
    """The samples from one share to another of a source, in an order drawn by `seed`.

    Parts of one seed that do not overlap share no sample; [0, 0.1] lies in [0, 0.2].

    Raises:
        UserError: there is no sample in it; one line that begins with `where`.
    """
    if (first, last) == (0.0, 1.0):
        return source
    order_N = numpy_stream(seed, "part").permutation(len(source))
    start, stop = round(first * len(source)), round(last * len(source))
    if start == stop:
        raise UserError(f"{where}: from {first:g} to {last:g} of {len(source)} samples there is none; take more")
    return Part(whole=source, index_N=np.sort(order_N[start:stop]))
