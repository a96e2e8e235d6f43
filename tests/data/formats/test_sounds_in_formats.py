"""Sounds in every format, alone and beside the clips that they belong to; what is mixed or missing is said."""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.made_data import CLASSES, clip, every_format, items, picture, sound, write_files
from tests.sounds import encoded, tone
from uniperceiver.data.formats import Source, class_names, open_source
from uniperceiver.data.media.sounds import hear_sound
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.records import Sample

NAMES = (
    "folder", "files", "csv", "tsv", "jsonl", "parquet of paths", "parquet of bytes", "parquet of both", "huggingface",
    "huggingface of parquet", "webdataset",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, dict[str, Any]]]]:
    """The folder with the sounds, and a recipe's mapping by format."""
    import datasets

    root = tmp_path_factory.mktemp("sounds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", root / "cache")
        yield root, dict(every_format(root, "audio"))


def read(source: Source) -> list[Sample]:
    """All samples."""
    return [source.read(index) for index in range(len(source))]


@pytest.mark.parametrize("name", NAMES)
def test_the_sounds_are_the_same(made: tuple[Path, dict[str, dict[str, Any]]], name: str) -> None:
    root, specs = made
    source = open_source(specs[name], "w", root)
    samples = read(source)
    assert [sample.value("audio") for sample in samples] == [item.data for item in items(sounds=True)]
    assert [sample.image for sample in samples] == [sample.clip for sample in samples] == [None] * 6
    assert class_names(source) == CLASSES
    assert [CLASSES[sample.label or 0] for sample in samples] == [item.class_name for item in items(sounds=True)]
    if name not in ("folder", "files"):
        assert all(sample.captions for sample in samples)


def test_sounds_with_texts_beside_them(tmp_path: Path) -> None:
    made = items(sounds=True)
    write_files(tmp_path, made)
    for item in made:
        (tmp_path / item.file).with_suffix(".txt").write_text("\n".join(item.captions), encoding="utf-8")
    samples = read(open_source({"format": "beside", "path": "."}, "w", tmp_path))
    assert [sample.value("audio") for sample in samples] == [item.data for item in made]
    assert samples[3].captions == ('the owl, "number" 3', "größer", "als 2")


def shard(path: Path, members: dict[str, bytes]) -> None:
    """A tar file."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_a_clip_and_its_sound_are_one_sample_of_a_shard(tmp_path: Path) -> None:
    shard(
        tmp_path / "a.tar",
        {
            "0.mp4": clip(1),
            "0.flac": sound(1),
            "0.jpg": picture(1),
            "0.txt": b"one",
            "1.mp4": clip(2),
            "2.ogg": sound(2),
        },
    )
    samples = read(open_source({"format": "webdataset", "path": "a.tar"}, "w", tmp_path))
    assert [(sample.clip, sample.value("audio"), sample.image) for sample in samples] == [
        (clip(1), sound(1), picture(1)), (clip(2), None, None), (None, sound(2), None),
    ]  # fmt: skip
    assert samples[0].captions == ("one",)
    assert samples[1].holder("audio") == clip(2)
    deaf = open_source({"format": "webdataset", "path": "a.tar", "audio": [], "clip": "mp4"}, "w", tmp_path)
    assert [sample.value("audio") for sample in (deaf.read(0), deaf.read(1))] == [None, None]
    with pytest.raises(BrokenSample, match=r"a\.tar/2: no image, clip or sound among its members: \.ogg"):
        deaf.read(2)


@pytest.mark.parametrize("name", ["csv", "jsonl"])
def test_a_clip_and_its_sound_are_one_row(tmp_path: Path, name: str) -> None:
    write_files(tmp_path, [*items(clips=True), *items(sounds=True)])
    stem = items()[2].file.removesuffix(".png")
    rows = [{"v": f"{stem}.mp4", "s": f"{stem}.wav", "t": text} for text in ("a", "b")]
    if name == "csv":
        lines = ["v,s,t", *(",".join(row.values()) for row in rows)]
    else:
        lines = [json.dumps(row) for row in rows]
    (tmp_path / f"t.{name}").write_text("\n".join(lines) + "\n")
    spec = {"format": name, "path": f"t.{name}", "clip": "v", "audio": "s", "captions": "t"}
    (sample,) = read(open_source(spec, "w", tmp_path))
    assert (sample.clip, sample.value("audio"), sample.captions) == (clip(2), sound(2), ("a", "b"))


def test_a_folder_of_clips_is_one_of_their_sound_tracks(tmp_path: Path) -> None:
    data = encoded(tone(0.5), kind="mp4", codec="aac", clip_frames=4)
    (tmp_path / "hum").mkdir()
    (tmp_path / "hum" / "a.mp4").write_bytes(data)
    sample = open_source({"format": "folder", "path": "."}, "w", tmp_path).read(0)
    assert sample.value("audio") is None
    assert sample.holder("audio") == data


def test_sounds_of_several_suffixes_are_one_kind_and_other_media_are_not(tmp_path: Path) -> None:
    (tmp_path / "bark").mkdir()
    for name in ("a.wav", "b.MP3", "c.flac", "é\n.ogg"):
        (tmp_path / "bark" / name).write_bytes(sound(1))
    assert len(open_source({"format": "folder", "path": "."}, "w", tmp_path)) == 4
    (tmp_path / "bark" / "d.jpg").write_bytes(picture(1))
    with pytest.raises(
        UserError, match=r"mixes images and sounds, such as bark/d\.jpg; choose with `extensions: \[jpg\]"
    ):
        open_source({"format": "folder", "path": "."}, "w", tmp_path)
    (tmp_path / "list.txt").write_text("bark/a.wav\nbark/d.jpg\n")
    with pytest.raises(UserError, match=r"list\.txt mixes images and sounds, such as bark/d\.jpg and bark/a\.wav"):
        open_source({"format": "files", "path": "list.txt"}, "w", tmp_path)
    (tmp_path / "bark" / "a.txt").write_text("x")
    (tmp_path / "bark" / "d.txt").write_text("x")
    with pytest.raises(UserError, match=r"mixes kinds of files, such as bark/.*; keep them apart"):
        open_source({"format": "beside", "path": "."}, "w", tmp_path)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("no.wav", r"no\.wav: cannot be read \(No such file"),
        ("", "no file in column 'a'"),
        ("nan", "nan: cannot be read"),
    ],
)
def test_rows_without_a_sound_are_broken(tmp_path: Path, cell: str, reason: str) -> None:
    (tmp_path / "x.wav").write_bytes(sound(1))
    (tmp_path / "t.csv").write_text(f"a,t\nx.wav,one\n{cell},two\n")
    source = open_source({"format": "csv", "path": "t.csv", "audio": "a", "captions": "t"}, "w", tmp_path)
    assert source.read(0).value("audio") == sound(1)
    with pytest.raises(BrokenSample, match=rf"^t\.csv:3: .*{reason}"):
        source.read(1)


def test_a_column_of_hugging_face_may_hold_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import pyarrow
    import pyarrow.parquet

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "x.wav").write_bytes(sound(1))
    rows = [{"a": {"bytes": None, "path": name}} for name in (str(tmp_path / "x.wav"), str(tmp_path / "y.wav"), None)]
    held = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    (tmp_path / "hub").mkdir()
    table = pyarrow.Table.from_pylist(rows, schema=pyarrow.schema({"a": held}))
    pyarrow.parquet.write_table(table, tmp_path / "hub" / "train-0.parquet")
    source = open_source({"format": "huggingface", "path": "hub", "audio": "a"}, "w", tmp_path)
    assert source.read(0).value("audio") == sound(1)
    for row, reason in ((1, r"y\.wav: cannot be read"), (2, "no file in column 'a'")):
        with pytest.raises(BrokenSample, match=reason):
            source.read(row)


def test_a_sound_of_too_many_bytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "hiss").mkdir()
    with (tmp_path / "hiss" / "a.wav").open("wb") as file:
        file.truncate(600 * 2**20)  # of nothing: no place on the disk
    source = open_source({"format": "folder", "path": "."}, "w", tmp_path)
    with pytest.raises(BrokenSample, match=r"^hiss/a\.wav: 600 MiB: more than 512; cut it into parts"):
        source.read(0)


def test_what_is_called_a_sound_and_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "hum" / "folder.wav").mkdir(parents=True)
    (tmp_path / "hum" / "a.wav").symlink_to("nowhere.wav")
    os.mkfifo(tmp_path / "hum" / "b.wav")
    (tmp_path / "hum" / "folder.wav" / "c.wav").write_bytes(sound(1))
    source = open_source({"format": "folder", "path": "."}, "w", tmp_path)
    reasons = {}
    for index in range(len(source)):
        try:
            assert source.read(index).value("audio") == sound(1)
        except BrokenSample as error:
            reasons[error.sample] = error.reason
    assert "No such file" in reasons.pop("hum/a.wav")
    assert reasons.pop("hum/b.wav").endswith("not a plain file")
    assert (len(source), reasons) == (3, {})


def test_members_of_a_shard_that_are_cut_or_lack_their_label(tmp_path: Path) -> None:
    members = {"0.flac": encoded(tone(1.0))[:-300], "0.json": b'{"label": 1}', "1.flac": sound(1), "1.json": b"{}"}
    shard(tmp_path / "a.tar", members)
    spec = {"format": "webdataset", "path": "a.tar", "label": "json.label", "classes": ["a", "b"]}
    source = open_source(spec, "w", tmp_path)
    data = source.read(0).value("audio")
    assert isinstance(data, bytes)
    with pytest.raises(BrokenSample, match=r"a\.tar/0: .*(truncated|damaged)"):
        hear_sound(data, source.read(0).id)
    with pytest.raises(BrokenSample, match=r"a\.tar/1: no label \(\.json\.label\)"):
        source.read(1)
