"""What a tar file holds, by sample: members with the same key. A damaged header costs its own sample, not the file."""

import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO

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
    said: str | None  # the key of the name that it still shows, if that can be read
    of_next: bool  # it said more about the member behind it


def read_samples(file: IO[bytes]) -> dict[str, TarSample]:
    """The samples of an uncompressed tar file, in the order in which they begin; no member is read, only headers.

    Raises:
        tarfile.TarError: it is no such file, or is truncated; the line says which.
    """
    samples: dict[str, TarSample] = {}
    keys: list[str] = []  # of the members, in order, those of damaged headers among them
    damaged: list[_Damage] = []
    size = os.fstat(file.fileno()).st_size
    start: int | None = 0
    while start is not None:
        stop = _read_members(file, start, samples, keys)
        if stop > size:
            raise tarfile.ReadError(f"truncated after {len(samples)} samples")
        file.seek(stop)
        block = file.read(_BLOCK)
        if not block.strip(b"\0"):
            break  # a block of zeros, or the end of the file
        start = _next_header(file, stop + _BLOCK)
        if start is None and stop == 0:
            raise tarfile.ReadError("not an uncompressed tar file")
        if start is None and not _ends_with_zeros(file):
            raise tarfile.ReadError(f"damaged or truncated after {len(samples)} samples")
        of_next = block[_TYPE_AT : _TYPE_AT + 1] in _OF_NEXT
        damage = _Damage(key=f"byte {stop}", said=_key_in(block), of_next=of_next)
        damaged.append(damage)
        keys.append(damage.key)
        samples[damage.key] = TarSample(refused=["the header of a member is damaged"])
    return _attributed(samples, keys, damaged)


def _read_members(file: IO[bytes], start: int, samples: dict[str, TarSample], keys: list[str]) -> int:
    """Add the members from there on; the offset of the first block that is not the header of one."""
    file.seek(start)
    stop = start
    # tarfile takes a damaged header for the end of the archive, or raises where it belongs to another one.
    with suppress(tarfile.TarError), tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            stop = tar.offset
            if not member.isdir():
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
        place = chunk.find(_MAGIC)
        while place >= 0:
            if place % _BLOCK == _MAGIC_AT:
                yield start + place - _MAGIC_AT
            place = chunk.find(_MAGIC, place + 1)
        if len(chunk) < _CHUNK:
            return
        start += _CHUNK


def _ends_with_zeros(file: IO[bytes]) -> bool:
    """Whether the mark is there that ends an archive."""
    size = file.seek(0, os.SEEK_END)
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
    ((usual, _),) = Counter(frozenset(each.members) for each in samples.values() if each.members).most_common(1) or [
        (frozenset(), 0)
    ]
    names: dict[str, str] = {}  # damaged header -> sample
    for damage in damaged:
        place = keys.index(damage.key)
        beside = [keys[near] for near in (place + 1, place - 1) if 0 <= near < len(keys)]
        lacking = [key for key in beside if samples[key].members.keys() < usual]
        own = damage.said if damage.said is not None else damage.key
        if damage.of_next and beside:
            own = beside[0]
        names[damage.key] = own if own in beside or not lacking else lacking[0]
    found: dict[str, TarSample] = {}
    for key, sample in samples.items():
        name = names.get(key, key)
        into = found.setdefault(name, TarSample())
        into.members.update(sample.members)
        into.refused.extend(sample.refused)
    return found
