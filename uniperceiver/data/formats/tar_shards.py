"""TAR SHARDS: which samples they hold, and where their members lie, so that any sample is read by its offset.

Members with the same key are one sample. A damaged header costs its own sample, not the file.

Shape suffixes: I samples, M members of all samples.
"""

import os
import tarfile
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from uniperceiver.data.formats.files import Strings, is_of_system, printable, read_bytes, refuse_packed, short_names
from uniperceiver.errors import BrokenSample, UserError

_BLOCK = tarfile.BLOCKSIZE
_MAGIC, _MAGIC_AT = b"ustar", 257  # in every header but those of the 1980s
_TYPE_AT, _OF_NEXT = 156, (b"x", b"L", b"K")  # headers that say more about the member behind them
_CHUNK = _BLOCK << 11


@dataclass(frozen=True, kw_only=True)
class TarSample:
    """The members of a key."""

    members: dict[str, tuple[int, int]] = field(default_factory=dict)  # offset and size by what stands behind the key
    refused: list[str] = field(default_factory=list)  # why it must not be read


@dataclass(frozen=True, kw_only=True)
class _Damage:
    """A header that cannot be read."""

    key: str  # a name for it among the samples
    visible_key: str | None  # of the name that it still shows, if that can be read
    of_next: bool  # it said more about the member behind it


@dataclass(frozen=True, kw_only=True)
class Shards:
    """The samples of all shards, in the order in which they stand there."""

    files: tuple[Path, ...]
    names: Strings  # of the samples: shard/key
    shard_I: np.ndarray  # int32, index into `files`
    stop_I: np.ndarray  # int64, end of each sample's members
    kind_names: tuple[str, ...]
    kind_M: np.ndarray  # int32, index into kind_names
    offset_M: np.ndarray  # int64, first byte
    size_M: np.ndarray  # int64, bytes
    refused: dict[int, str]  # samples that must not be read, and why
    of_system: int = 0  # members that macOS has put beside the others

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
        return (name[lengths[shard] :] for name, shard in zip(self.names, self.shard_I.tolist(), strict=True))

    def members(self, index: int) -> dict[str, int]:
        """Index of each of a sample's members, by what stands behind the key.

        Raises:
            BrokenSample: it must not be read.
        """
        if index in self.refused:
            raise BrokenSample(self.name(index), self.refused[index])
        members = range(int(self.stop_I[index - 1]) if index else 0, int(self.stop_I[index]))
        return {self.kind_names[self.kind_M[member]]: member for member in members}

    def read(self, index: int, kind: str) -> bytes:
        """The bytes of a member."""
        member = self.members(index)[kind]
        file = self.files[self.shard_I[index]]
        return read_bytes(file, self.name(index), int(self.offset_M[member]), int(self.size_M[member]))


def index_shards(files: Sequence[Path], names: Sequence[str], where: str) -> Shards:
    """Read the headers of all members once.

    Raises:
        UserError: a shard that is no tar file, is compressed, empty or damaged.
    """
    sample_names: list[str] = []
    shards: list[int] = []
    stops = [0]
    members = array("q")  # kind, offset and size of each; tuples of numbers would take several times the memory
    refused: dict[int, str] = {}
    kinds: dict[str, int] = {}
    of_system: list[str] = []
    for shard, (file, short) in enumerate(zip(files, names, strict=True)):
        for key, sample in _read_shard(file, where, of_system).items():
            if sample.refused:
                refused[len(sample_names)] = sample.refused[0]
            sample_names.append(f"{short}/{printable(key)}")
            shards.append(shard)
            stops.append(stops[-1] + len(sample.members))
            for kind, span in sample.members.items():
                members.extend((kinds.setdefault(kind, len(kinds)), *span))
    kind_M, offset_M, size_M = np.array(members, dtype=np.int64).reshape(-1, 3).T  # (M, 3)
    return Shards(
        files=tuple(files),
        names=Strings.of(sample_names),
        shard_I=np.array(shards, dtype=np.int32),
        stop_I=np.array(stops[1:], dtype=np.int64),
        kind_names=tuple(kinds),
        kind_M=kind_M.astype(np.int32),
        offset_M=offset_M.copy(),
        size_M=size_M.copy(),
        refused=refused,
        of_system=len(of_system),
    )


def _read_shard(path: Path, where: str, of_system: list[str]) -> dict[str, TarSample]:
    try:
        with open(path, "rb") as file:
            refuse_packed(path, file.read(_BLOCK), where)
            samples = read_samples(file, of_system)
    except OSError as error:
        raise UserError(f"{where}: {path}: cannot be read ({error.strerror})") from None
    except tarfile.TarError as error:
        raise UserError(f"{where}: {path}: {error}; copy or unpack it again") from None
    if not samples:
        raise UserError(f"{where}: {path}: an empty tar file; leave it out")
    return samples


def read_samples(file: IO[bytes], of_system: list[str] | None = None) -> dict[str, TarSample]:
    """The samples of an uncompressed tar file, in the order in which they begin; no member is read, only headers.

    Args:
        of_system: takes the names of members that macOS has put beside the others; they belong to no sample.

    Raises:
        tarfile.TarError: it is no such file, or is truncated; the line says which.
    """
    samples: dict[str, TarSample] = {}
    keys: list[str] = []  # of the members, in order, those of damaged headers among them
    damaged: list[_Damage] = []
    size = os.fstat(file.fileno()).st_size
    start: int | None = 0
    of_system = [] if of_system is None else of_system
    while start is not None:
        stop = _read_members(file, start, samples, keys, of_system)
        if stop > size:
            raise tarfile.ReadError(f"truncated after {len(samples)} samples")
        file.seek(stop)
        block = file.read(_BLOCK)
        if not block.strip(b"\0"):
            break  # a block of zeros, or the end of the file
        start = _next_header(file, stop + _BLOCK)
        if start is None and stop == 0:
            raise tarfile.ReadError("not an uncompressed tar file")
        if start is None and not _has_end_mark(file, size):
            raise tarfile.ReadError(f"damaged or truncated after {len(samples)} samples")
        of_next = block[_TYPE_AT : _TYPE_AT + 1] in _OF_NEXT
        damage = _Damage(key=f"byte {stop}", visible_key=_key_in(block), of_next=of_next)
        damaged.append(damage)
        keys.append(damage.key)
        samples[damage.key] = TarSample(refused=["the header of a member is damaged"])
    return _attributed(samples, keys, damaged)


def _read_members(
    file: IO[bytes], start: int, samples: dict[str, TarSample], keys: list[str], of_system: list[str]
) -> int:
    """Add the members from there on; the offset of the first block that is not the header of one."""
    file.seek(start)
    stop = start
    # tarfile takes a damaged header for the end of the archive, or raises where it belongs to another one.
    with suppress(tarfile.TarError), tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            stop = tar.offset
            if any(map(is_of_system, PurePosixPath(member.name).parts)):
                of_system.append(member.name)
            elif not member.isdir():
                keys.append(_add(samples, member))
        stop = tar.offset
    return stop


def _add(samples: dict[str, TarSample], member: tarfile.TarInfo) -> str:
    key, kind = _key_and_kind(member.name)
    path = PurePosixPath(member.name)
    sample = samples.setdefault(key, TarSample())
    if path.is_absolute() or ".." in path.parts:
        sample.refused.append(f"{member.name!r} points out of the shard")
    elif not member.isreg() or member.issparse():
        sample.refused.append(f"{member.name!r} is a link, a device or sparse, not a plain file")
    elif kind in sample.members:
        sample.refused.append(f"two members {member.name!r}")
    else:
        sample.members[kind] = (member.offset_data, member.size)
    return key


def _key_and_kind(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    stem, _, kind = path.name.partition(".")  # the key ends at the first dot of the file name
    return (path.parent / stem).as_posix(), kind.lower()


def _next_header(file: IO[bytes], start: int) -> int | None:
    """The offset of the first whole header from there on. In the data of a damaged member that is a tar file itself,
    it may be one of that file: its samples come along."""
    for at in _magics(file, start):
        file.seek(at)
        try:
            tarfile.TarInfo.frombuf(file.read(_BLOCK), "utf-8", "surrogateescape")
        except tarfile.TarError:
            continue
        return at
    return None


def _magics(file: IO[bytes], start: int) -> Iterator[int]:
    """Offsets of the blocks that look like a header."""
    while True:
        file.seek(start)
        chunk = file.read(_CHUNK)  # whole blocks, so that no header lies across two
        at = chunk.find(_MAGIC)
        while at >= 0:
            if at % _BLOCK == _MAGIC_AT:
                yield start + at - _MAGIC_AT
            at = chunk.find(_MAGIC, at + 1)
        if len(chunk) < _CHUNK:
            return
        start += _CHUNK


def _has_end_mark(file: IO[bytes], size: int) -> bool:
    """Whether the archive ends with a block of zeros."""
    file.seek(max(0, size - _BLOCK))
    return not file.read(_BLOCK).strip(b"\0")


def _key_in(block: bytes) -> str | None:
    try:
        name = block[:100].split(b"\0")[0].decode("utf-8")
    except UnicodeDecodeError:
        return None
    return _key_and_kind(name)[0] if name.isprintable() and name.strip() else None


def _attributed(samples: dict[str, TarSample], keys: list[str], damaged: list[_Damage]) -> dict[str, TarSample]:
    """The samples, where a damaged header counts against the sample that it belongs to.

    That is the one whose key it shows, or else a neighbour that lacks what most samples have; or else it is a sample
    of its own, that had no other member.
    """
    if not damaged:
        return samples
    kinds = Counter(frozenset(sample.members) for sample in samples.values() if sample.members)
    usual = kinds.most_common(1)[0][0] if kinds else frozenset()
    names: dict[str, str] = {}  # damaged header -> sample
    for damage in damaged:
        position = keys.index(damage.key)
        beside = [keys[near] for near in (position + 1, position - 1) if 0 <= near < len(keys)]
        lacking = [key for key in beside if samples[key].members.keys() < usual]
        own = damage.key if damage.visible_key is None else damage.visible_key
        if damage.of_next and beside:
            own = beside[0]
        names[damage.key] = own if own in beside or not lacking else lacking[0]
    merged: dict[str, TarSample] = {}
    for key, sample in samples.items():
        into = merged.setdefault(names.get(key, key), TarSample())
        into.members.update(sample.members)
        into.refused.extend(sample.refused)
    return merged
