"""Where the members of tar shards lie, so that any sample is read by its offset."""

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from uniperceiver.data.sources.files import Strings, printable, read_bytes
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


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """What is known of a key while its shard is read."""

    members: dict[str, tuple[int, int]]  # offset and size
    refused: list[str]


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


def _index_shard(path: Path, where: str) -> dict[str, _Sample]:
    samples: dict[str, _Sample] = {}
    try:
        with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as shard:
            for member in shard:
                if not member.isdir():
                    _add(samples, member)
            _check_end(file, shard.offset)
    except OSError as error:
        raise UserError(f"{where}: {path}: cannot be read ({error.strerror})") from None
    except tarfile.TarError as error:
        state = f"damaged or truncated after {len(samples)} samples" if samples else "not an uncompressed tar file"
        raise UserError(f"{where}: {path}: {state} ({error}); copy or unpack it again") from None
    if not samples:
        raise UserError(f"{where}: {path}: an empty tar file; leave it out")
    return samples


def _add(samples: dict[str, _Sample], member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    stem, _, kind = path.name.partition(".")  # the key ends at the first dot of the file name
    sample = samples.setdefault((path.parent / stem).as_posix(), _Sample(members={}, refused=[]))
    kind = kind.lower()
    if path.is_absolute() or ".." in path.parts:
        sample.refused.append(f"{member.name!r} points out of the shard")
    elif not member.isreg() or member.issparse():
        sample.refused.append(f"{member.name!r} is a link, a device or sparse, not a plain file")
    elif kind in sample.members:
        sample.refused.append(f"two members {member.name!r}")
    else:
        sample.members[kind] = (member.offset_data, member.size)


def _check_end(file: IO[bytes], offset: int) -> None:
    """tarfile takes a damaged header for the end of the archive, which is a block of zeros or the end of the file."""
    file.seek(offset)
    if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError("the header of a member is damaged")
