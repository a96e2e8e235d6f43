"""Tar files whose headers are damaged: what stands behind them is found again, and each costs one sample."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from uniperceiver.data.formats.tar_shards import TarSample, read_samples

GNU, PAX, USTAR = tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT


def written(names: Iterable[str], format: int = USTAR, size: int = 600) -> tuple[bytearray, dict[str, int]]:
    """A tar file of members of that size, and where the header of each begins."""
    file, offsets = io.BytesIO(), {}
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for name in names:
            offsets[name] = tar.offset
            info = tarfile.TarInfo(name)
            info.size = size
            tar.addfile(info, io.BytesIO(b"x" * size))
    return bytearray(file.getvalue()), offsets


def samples_of(path: Path, data: bytes) -> dict[str, TarSample]:
    """The samples of a file with these bytes."""
    path.write_bytes(data)
    with open(path, "rb") as file:
        return read_samples(file)


def good(samples: dict[str, TarSample]) -> dict[str, set[str]]:
    """The kinds of members of the samples that may be read."""
    return {key: set(each.members) for key, each in samples.items() if not each.refused}


def bad(samples: dict[str, TarSample]) -> dict[str, list[str]]:
    """Why the others may not."""
    return {key: each.refused for key, each in samples.items() if each.refused}


PAIRS = [f"{key}.{kind}" for key in "abcd" for kind in ("jpg", "txt")]


@pytest.mark.parametrize("format", [USTAR, GNU, PAX])
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("place", [0, 120, 150])
def test_a_damaged_header_costs_its_sample(tmp_path: Path, name: str, place: int, format: int) -> None:
    data, offsets = written(PAIRS, format)
    data[offsets[name] + place : offsets[name] + place + 20] = b"\xee" * 20  # the name, the size or the checksum
    samples = samples_of(tmp_path / "a.tar", data)
    assert bad(samples) == {name[0]: ["the header of a member is damaged"]}
    assert good(samples) == {key: {"jpg", "txt"} for key in "abcd" if key != name[0]}


def test_members_behind_it_are_read_where_they_are(tmp_path: Path) -> None:
    data, offsets = written(PAIRS)
    whole = samples_of(tmp_path / "a.tar", data)
    data[offsets["b.jpg"] + 148] ^= 1  # one bit of the checksum
    assert {key: each.members for key, each in samples_of(tmp_path / "b.tar", data).items() if key != "b"} == {
        key: each.members for key, each in whole.items() if key != "b"
    }


@pytest.mark.parametrize("place", [130, 1024 + 130])
def test_a_header_that_has_another_before_it(tmp_path: Path, place: int) -> None:
    file, offsets = io.BytesIO(), {}
    with tarfile.open(fileobj=file, mode="w", format=PAX) as tar:
        for name in PAIRS:
            offsets[name] = tar.offset
            info = tarfile.TarInfo(name)
            info.mtime = 0.5  # only such a header can say it
            tar.addfile(info)
    data = bytearray(file.getvalue())
    data[offsets["b.jpg"] + place : offsets["b.jpg"] + place + 20] = b"\xee" * 20
    samples = samples_of(tmp_path / "a.tar", data)
    assert list(bad(samples)) == ["b"]
    assert good(samples) == {key: {"jpg", "txt"} for key in "acd"}


def test_a_sample_that_was_one_member_has_the_name_that_is_left(tmp_path: Path) -> None:
    data, offsets = written(["a.jpg", "b.jpg", "c.jpg"])
    data[offsets["b.jpg"] + 150] ^= 255
    assert list(bad(samples_of(tmp_path / "a.tar", data))) == ["b"]
    data[offsets["b.jpg"]] = 0xEE
    samples = samples_of(tmp_path / "a.tar", data)
    assert list(samples) == ["a", f"byte {offsets['b.jpg']}", "c"]


def test_several_headers(tmp_path: Path) -> None:
    data, offsets = written(PAIRS)
    for name in ("a.jpg", "b.txt", "b.jpg", "d.txt"):
        data[offsets[name] + 100 : offsets[name] + 160] = b"\xee" * 60
    samples = samples_of(tmp_path / "a.tar", data)
    assert list(bad(samples)) == ["a", "b", "d"]
    assert good(samples) == {"c": {"jpg", "txt"}}


def test_data_that_look_like_a_header_are_no_header(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=USTAR) as tar:
        for name in ("a.jpg", "b.jpg"):
            fake = bytearray(1024)
            fake[257:262] = b"ustar"
            info = tarfile.TarInfo(name)
            info.size = len(fake)
            tar.addfile(info, io.BytesIO(fake))
    data = bytearray(file.getvalue())
    data[150] ^= 255
    samples = samples_of(tmp_path / "a.tar", data)
    assert (list(good(samples)), list(bad(samples))) == (["b"], ["a"])


@pytest.mark.parametrize("cut", [700, 1100, 4000])
def test_a_truncated_file_is_none(tmp_path: Path, cut: int) -> None:
    data, _ = written(PAIRS)
    with pytest.raises(tarfile.TarError, match=r"truncated after|not an uncompressed tar file"):
        samples_of(tmp_path / "a.tar", data[:cut])
    with pytest.raises(tarfile.TarError, match="not an uncompressed tar file"):
        samples_of(tmp_path / "a.tar", bytes(range(256)) * 40)


def test_a_tar_file_without_an_end_is_whole(tmp_path: Path) -> None:
    data, _ = written(PAIRS)
    assert len(good(samples_of(tmp_path / "a.tar", data[: 8 * (512 + 1024)]))) == 4
