"""Keys of every format: some of the samples, those that a list names or a part that a seed draws.

Shape suffixes: I samples.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from uniperceiver.data.formats.files import existing_file, read_lines
from uniperceiver.errors import UserError
from uniperceiver.records import Sample
from uniperceiver.streams import numpy_stream
from uniperceiver.strict import record

if TYPE_CHECKING:
    from uniperceiver.data.formats import Source


@record
class SubsetConfig:
    """Which of a source's samples are taken; `part` counts among those that `only` names.

    Raises:
        ValueError: the shares are no part.
    """

    only: str | None = None
    """A text file with a name per line: a sample's id as logs show it, or its path as the data name it."""
    part: tuple[float, float] = (0.0, 1.0)
    """From which share of the samples to which, in an order drawn by `part_seed`: [0, 0.8] to train, [0.8, 1] to
    evaluate."""
    part_seed: int = 0
    """Another number, other samples in each part."""

    def __post_init__(self) -> None:
        first, last = self.part
        if not 0 <= first < last <= 1:
            raise ValueError(f"part: expected two shares such as [0, 0.8], found [{first:g}, {last:g}]")

    def of(self, source: "Source", base: Path, where: str) -> "Source":
        """The samples of a source that are taken, in its order.

        Raises:
            UserError: a name is unknown, or no sample is left; one line that begins with `where`.
        """
        if self.only is not None:
            source = named_samples(source, self.only, base, where)
        return random_part(source, *self.part, self.part_seed, where)


@runtime_checkable
class Listing(Protocol):
    """A source that can tell the names of its samples without reading them."""

    def names(self) -> Iterator[tuple[str, ...]]:
        """What a list may call each sample, in order; its id first."""


@dataclass(frozen=True, kw_only=True)
class Subset:
    """Some of the samples of a source, with all of its classes."""

    whole: "Source"
    index_I: np.ndarray  # int64, ascending

    @property
    def classes(self) -> tuple[tuple[str, ...], ...] | None:
        """Texts per class, also of classes that have no sample here."""
        return self.whole.classes

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What the files of the whole call the classes; None where they say nothing else than the texts."""
        names: tuple[str, ...] | None = getattr(self.whole, "class_names", None)
        return names

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out of the whole."""
        notes: tuple[str, ...] = getattr(self.whole, "notes", ())
        return notes

    @property
    def has_masks(self) -> bool | None:
        """Whether any thing of the whole has an outline; None: not known without reading."""
        has_masks: bool | None = getattr(self.whole, "has_masks", None)
        return has_masks

    def __len__(self) -> int:
        return len(self.index_I)

    def read(self, index: int) -> Sample:
        """The sample of the whole."""
        return self.whole.read(int(self.index_I[index]))

    def labels_of(self, index_I: np.ndarray) -> frozenset[int] | None:
        """The classes that some of these samples have; None: not known without reading them."""
        labels_of: Callable[[np.ndarray], frozenset[int] | None] | None = getattr(self.whole, "labels_of", None)
        return None if labels_of is None else labels_of(self.index_I[index_I])

    def counts_of(self, index_I: np.ndarray) -> np.ndarray | None:
        """How many single things each of these pictures has; None: not known without reading them."""
        counts_of: Callable[[np.ndarray], np.ndarray | None] | None = getattr(self.whole, "counts_of", None)
        return None if counts_of is None else counts_of(self.index_I[index_I])

    def texts(self) -> Iterator[str]:
        """The texts of the whole: its files are not read again to find out which of them belong to these samples."""
        return self.whole.texts()


def named_samples(source: "Source", path: str, base: Path, where: str) -> Subset:
    """The samples that a list names, in the order of the source.

    Args:
        path: the list, a text file with a name per line; relative to `base`.

    Raises:
        UserError: the list is empty, or names what is not there.
    """
    where = f"{where}: only"
    file = existing_file(base, path, where)
    if not isinstance(source, Listing):
        raise UserError(f"{where}: the samples of this format have no names; leave the key out")
    # By name; of a name that stands there twice, the last line.
    line_of = {line.removeprefix("./"): number for number, line in read_lines(file, where)}
    if not line_of:
        raise UserError(f"{where}: {file}: names no sample; write one name per line")
    used: set[str] = set()
    taken = []
    example: tuple[str, ...] = ()
    for index, names in enumerate(source.names()):
        example = example or names
        if matching := line_of.keys() & set(names):
            taken.append(index)
            used |= matching
    if unused := next((name for name in line_of if name not in used), None):
        raise UserError(
            f"{where}: {file}:{line_of[unused]}: {unused!r} names no sample; "
            f"they are named like {' or '.join(map(repr, example))}"
        )
    return Subset(whole=source, index_I=np.array(taken, dtype=np.int64))


def random_part(source: "Source", first: float, last: float, seed: int, where: str) -> "Source":
    """The samples from one share (0..1) to another of a source, in an order drawn by `seed`; all if that is all.

    Parts of one seed that do not overlap share no sample; [0, 0.1] lies in [0, 0.2].

    Raises:
        UserError: there is no sample in it; one line that begins with `where`.
    """
    if (first, last) == (0.0, 1.0):
        return source
    order_I = numpy_stream(seed, "part").permutation(len(source))
    start, stop = round(first * len(source)), round(last * len(source))
    if start == stop:
        raise UserError(f"{where}: from {first:g} to {last:g} of {len(source)} samples there is none; take more")
    return Subset(whole=source, index_I=np.sort(order_I[start:stop]))
