"""Where the members of tar shards lie, so that any sample is read by its offset."""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uniperceiver.data.formats.files import Strings, printable, read_bytes, short_names
from uniperceiver.data.formats.tar_samples import TarSample, read_samples
from uniperceiver.errors import BrokenSample, UserError


@dataclass(frozen=True, kw_only=True)
class Shards:
    """The samples of all shards, in the order in which they stand there."""

    files: tuple[Path, ...]
    names: Strings  # of the samples: shard/key
    shard_N: np.ndarray  # int32, index into `files`
    stop_N: np.ndarray  # int64, end of each sample's members
    kind_names: tuple[str, ...]
    kind_M: np.ndarray  # int32, index into kind_names
    offset_M: np.ndarray  # int64, first byte
    size_M: np.ndarray  # int64, bytes
    refused: dict[int, str]  # samples that must not be read, and why

    def __len__(self) -> int:
        return len(self.names)

    @property
    def kinds(self) -> frozenset[str]:
        """All that stands behind the keys: jpg, cls, ..."""
        return frozenset(self.kind_names)

    def name(self, index: int) -> str:
        """Name of a sample, such as 00000.tar/000123."""
        return self.names[index]

    def keys(self) -> Iterator[str]:
        """The key of each sample, without its shard."""
        lengths = [len(name) + 1 for name in short_names(self.files)]
        return (name[lengths[shard] :] for name, shard in zip(self.names, self.shard_N.tolist(), strict=True))

    def members(self, index: int) -> dict[str, int]:
        """Place of each of a sample's members, by what stands behind the key."""
        if index in self.refused:
            raise BrokenSample(self.name(index), self.refused[index])
        places = range(int(self.stop_N[index - 1]) if index else 0, int(self.stop_N[index]))
        return {self.kind_names[self.kind_M[place]]: place for place in places}

    def read(self, index: int, kind: str) -> bytes:
        """The bytes of a member."""
        place = self.members(index)[kind]
        file = self.files[self.shard_N[index]]
        return read_bytes(file, self.name(index), int(self.offset_M[place]), int(self.size_M[place]))


def index_shards(files: Sequence[Path], names: Sequence[str], where: str) -> Shards:
    """Read the headers of all members once.

    Raises:
        UserError: a shard that is no tar file, is compressed, empty or damaged.
    """
    sample_names: list[str] = []
    shards: list[int] = []
    stops = [0]
    members: list[tuple[int, int, int]] = []
    refused: dict[int, str] = {}
    kinds: dict[str, int] = {}
    for place, (file, short) in enumerate(zip(files, names, strict=True)):
        for key, sample in _index_shard(file, where).items():
            if sample.refused:
                refused[len(sample_names)] = sample.refused[0]
            sample_names.append(f"{short}/{printable(key)}")
            shards.append(place)
            stops.append(stops[-1] + len(sample.members))
            members += [(kinds.setdefault(kind, len(kinds)), *span) for kind, span in sample.members.items()]
    kind_M, offset_M, size_M = np.array(members, dtype=np.int64).reshape(-1, 3).T  # (M, 3)
    return Shards(
        files=tuple(files),
        names=Strings.of(sample_names),
        shard_N=np.array(shards, dtype=np.int32),
        stop_N=np.array(stops[1:], dtype=np.int64),
        kind_names=tuple(kinds),
        kind_M=kind_M.astype(np.int32),
        offset_M=offset_M.copy(),
        size_M=size_M.copy(),
        refused=refused,
    )


def _index_shard(path: Path, where: str) -> dict[str, TarSample]:
    try:
        with open(path, "rb") as file:
            samples = read_samples(file)
    except OSError as error:
        raise UserError(f"{where}: {path}: cannot be read ({error.strerror})") from None
    except tarfile.TarError as error:
        raise UserError(f"{where}: {path}: {error}; copy or unpack it again") from None
    if not samples:
        raise UserError(f"{where}: {path}: an empty tar file; leave it out")
    return samples
