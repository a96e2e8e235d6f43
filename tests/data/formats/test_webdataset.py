"""Tar shards."""

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest

from uniperceiver.data.formats import Source, class_names, notes_of, open_source
from uniperceiver.errors import BrokenSample, UserError


def shard(path: Path, members: dict[str, bytes] | list[tuple[str, bytes]], **types: bytes) -> None:
    """A tar file; `types` gives some members another type than a plain file, by stem."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.type = types.get(Path(name).stem, tarfile.REGTYPE)
            info.linkname = "/etc/hostname"
            tar.addfile(info, io.BytesIO(data))


def opened(root: Path, **options: Any) -> Source:
    """A source of all shards in a folder."""
    return open_source({"format": "webdataset", "path": "."} | options, "w", root)


def test_members_with_a_key_are_a_sample(tmp_path: Path) -> None:
    shard(
        tmp_path / "0.tar", {"d/a.jpg": b"A", "d/a.cls": b"1\n", "d/a.txt": b" a cat\n", "b.JPG": b"B", "b.cls": b"dog"}
    )
    shard(tmp_path / "1.tar", {"c.seg.png": b"no", "c.png": b"C", "c.cls": b"0"})
    (tmp_path / "classes.txt").write_text("dog\nbig_cat\n")
    source = pickle.loads(pickle.dumps(opened(tmp_path, classes="classes.txt")))
    samples = [source.read(index) for index in range(len(source))]
    assert [sample.id for sample in samples] == ["0.tar/d/a", "0.tar/b", "1.tar/c"]
    assert [sample.image for sample in samples] == [b"A", b"B", b"C"]
    assert [sample.label for sample in samples] == [1, 0, 0]
    assert [sample.captions for sample in samples] == [("a cat",), (), ()]
    assert class_names(source) == ("dog", "big_cat")
    assert list(source.texts()) == ["dog", "big cat", "a cat"]


def test_clips_and_values_of_json(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", {"a.mp4": b"V", "a.json": b'{"says": ["one", "two"], "is": 1}'})
    source = opened(tmp_path, text="json.says", label="json.is", classes=["x", "y"])
    sample = source.read(0)
    assert (sample.clip, sample.image, sample.captions, sample.label) == (b"V", None, ("one", "two"), 1)


def test_text_alone_is_an_input(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", {"a.txt": b"words", "b.cls": b"0"})
    source = opened(tmp_path)
    assert source.read(0).text == "words"
    assert source.read(0).captions == ()
    with pytest.raises(BrokenSample, match=r"^0\.tar/b: no text among its members: \.cls"):
        source.read(1)


def test_other_keys(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", {"a.left.jpg": b"L", "a.right.jpg": b"R", "a.txt": b"\xff"})
    assert opened(tmp_path, image="right.jpg", text=None).read(0).image == b"R"


def test_patterns_and_lists(tmp_path: Path) -> None:
    for number in range(3):
        shard(tmp_path / f"s-{number:02d}.tar", {f"{number}.png": b"x"})
    source = opened(tmp_path, path="s-{01..02}.tar")
    assert [source.read(index).id for index in range(len(source))] == ["s-01.tar/1", "s-02.tar/2"]
    assert len(opened(tmp_path, path=["s-02.tar", "s-00.tar"])) == 2
    source = opened(tmp_path, path="s-0[0-1].*")
    assert [source.read(index).id for index in range(len(source))] == ["s-00.tar/0", "s-01.tar/1"]
    with pytest.raises(UserError, match=r"names .*s-01\.tar twice"):
        opened(tmp_path, path=["s-{00..01}.tar", "s-01.tar"])
    with pytest.raises(UserError, match=r"of which 1 are not there: s-03\.tar"):
        opened(tmp_path, path="s-{01..03}.tar")


def test_dangerous_members_are_refused(tmp_path: Path) -> None:
    names = ["/abs.jpg", "../up.jpg", "d/../../in.jpg", "link.jpg", "hard.jpg", "pipe.jpg", "device.jpg", "good.jpg"]
    types = {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "pipe": tarfile.FIFOTYPE, "device": tarfile.CHRTYPE}
    shard(tmp_path / "0.tar", [(name, b"") for name in names] + [("dir/", b"")], dir=tarfile.DIRTYPE, **types)
    source = opened(tmp_path)
    assert len(source) == len(names)
    for index in range(len(names) - 1):
        with pytest.raises(BrokenSample, match="points out of the shard" if index < 3 else "not a plain file"):
            source.read(index)
    assert source.read(len(names) - 1).image == b""


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"x.cls": b"0"}, r"no image, clip or sound among its members: \.cls"),
        ({"x.jpg": b""}, r"no label \(\.cls\)"),
        ({"x.jpg": b"", "x.cls": b"7"}, "label '7' means none of the 2 classes"),
        ({"x.jpg": b"", "x.cls": b"-1"}, "label '-1'"),
        ({"x.jpg": b"", "x.cls": b"0", "x.txt": b" "}, "empty text"),
        ({"x.jpg": b"", "x.cls": b"0", "x.txt": b"\xff"}, "not valid UTF-8"),
        ([("x.jpg", b""), ("x.cls", b"0"), ("x.jpg", b"")], r"two members 'x\.jpg'"),
    ],
)
def test_broken_samples(tmp_path: Path, members: Any, reason: str) -> None:
    good = [("a.jpg", b"A"), ("a.cls", b"1")]
    shard(tmp_path / "0.tar", good + list(members.items() if isinstance(members, dict) else members))
    source = opened(tmp_path, classes=["x", "y"])
    assert source.read(0).label == 1
    with pytest.raises(BrokenSample, match=rf"^0\.tar/x: {reason}"):
        source.read(1)
    assert list(source.texts()) == ["x", "y"]


def test_json_that_is_none(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", {"a.jpg": b"", "a.json": b"{"})
    with pytest.raises(BrokenSample, match="not valid JSON"):
        opened(tmp_path, text="json.caption").read(0)


def test_shards_that_are_damaged(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", {f"{number}.jpg": b"x" * 600 for number in range(4)})
    whole = (tmp_path / "0.tar").read_bytes()
    ending = 4 * (512 + 1024)
    for cut in (ending - 1200, ending - 1100, ending - 500):
        (tmp_path / "0.tar").write_bytes(whole[:cut])
        with pytest.raises(UserError, match=r"0\.tar: .*truncated after \d samples; copy or unpack it again"):
            opened(tmp_path)
    (tmp_path / "0.tar").write_bytes(whole[:ending])  # the end mark is missing, but nothing else
    assert len(opened(tmp_path)) == 4


@pytest.mark.parametrize(
    ("mode", "message"), [("w", "empty tar file"), ("w:xz", r"is compressed; unpack it first \(unxz\)$")]
)
def test_what_is_no_shard(tmp_path: Path, mode: Any, message: str) -> None:
    tarfile.open(tmp_path / "0.tar", mode).close()
    with pytest.raises(UserError, match=f"^w: .*{message}"):
        opened(tmp_path)


def test_names_with_dots_are_said(tmp_path: Path) -> None:
    dotted = {"v1.0_a.jpg": b"A", "v1.0_a.txt": b"a", "v1.0_b.jpg": b"B", "v1.0_b.txt": b"b"}
    end = "a sample's name ends at the first dot: if 'v1.0_a.jpg' is a sample of its own, put another character there"
    shard(tmp_path / "0.tar", dotted)
    with pytest.raises(UserError, match=rf"only \.0_a\.jpg, .*; set key image, clip, audio or text; {end}$"):
        opened(tmp_path)
    assert opened(tmp_path, image="0_a.jpg", text="0_a.txt").read(0).captions == ("a",)
    shard(tmp_path / "0.tar", {"d.x/c.jpg": b"C", "d.x/c.seg.png": b"no", **dotted})
    source = opened(tmp_path)
    assert source.read(0).image == b"C"
    assert notes_of(source) == (f"{tmp_path}/0.tar: 2 files are not taken: {end}",)
    shard(tmp_path / "0.tar", {"c.jpg": b"C", "c.seg.png": b"no"})
    assert notes_of(opened(tmp_path)) == ()


def test_a_shard_of_absolute_names(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", {"/a.jpg": b"A", "/a.txt": b"a"})
    with pytest.raises(
        UserError,
        match=r"no member can be used: '/a\.jpg' points out of the shard; pack plain files by relative names$",
    ):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": "bmp"}, r"no image, clip, sound or text, only \.idx, \.jpg; set key image"),
        ({"classes": ["a"]}, r"no member \.cls for key 'label'"),
        ({"classes": ["a"], "objects": "things"}, r"no member \.things for key 'objects'; choose one of idx, jpg"),
        ({"classes": []}, "names no class"),
    ],
)
def test_wrong_keys(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    shard(tmp_path / "0.tar", {"a.jpg": b"", "a.idx": b"0"})
    with pytest.raises(UserError, match=f"^w: .*{message}"):
        opened(tmp_path, **options)


def test_samples_may_have_names_of_their_own(tmp_path: Path) -> None:
    shard(
        tmp_path / "0.tar", {"1.jpg": b"A", "1.json": b'{"id": "cat/x.png", "is": 7}', "2.jpg": b"B", "2.json": b"{}"}
    )
    source = opened(tmp_path, id="json.id", text=None)
    assert source.read(0).id == "cat/x.png"
    with pytest.raises(BrokenSample, match=r"^0\.tar/2: no name \(\.json\.id\)"):
        source.read(1)
    (tmp_path / "only.txt").write_text("cat/x.png\n")
    assert [opened(tmp_path, id="json.id", text=None, only="only.txt").read(0).id] == ["cat/x.png"]


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("NaN", r"\.json\.says is NaN"),
        ('""', r"empty text in \.json\.says"),
        ('["", " "]', r"empty text in \.json\.says"),
        ('{"en": "a"}', r"\.json\.says holds a mapping"),
        ('"\\ud83d"', r"\.json\.says is not valid UTF-8"),
    ],
)
def test_what_is_no_caption(caption: str, reason: str, tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", {"a.jpg": b"A", "a.json": f'{{"says": {caption}}}'.encode()})
    source = opened(tmp_path, text="json.says")
    with pytest.raises(BrokenSample, match=rf"^0\.tar/a: {reason}"):
        source.read(0)
    assert list(source.texts()) == []


def test_a_damaged_header_breaks_its_sample_alone(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", {f"{number}.jpg": b"x" * 600 for number in range(4)})
    whole = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(whole[: 2 * 1536 + 120] + b"?" * 30 + whole[2 * 1536 + 150 :])
    source = opened(tmp_path)
    with pytest.raises(BrokenSample, match=r"^0\.tar/2: the header of a member is damaged$"):
        source.read(2)
    assert [source.read(index).id for index in (0, 1, 3)] == ["0.tar/0", "0.tar/1", "0.tar/3"]


def test_members_of_macos_are_ignored_and_counted(tmp_path: Path) -> None:
    names = ["a.jpg", "._a.jpg", "d/b.jpg", "d/._b.jpg", "__MACOSX/d/._b.jpg", ".DS_Store"]
    shard(tmp_path / "0.tar", [("a.jpg", b"A"), *((name, name.encode()) for name in names[1:])])
    source = opened(tmp_path)
    assert [source.read(index).image for index in range(len(source))] == [b"A", b"d/b.jpg"]
    assert notes_of(source) == (f"{tmp_path / '0.tar'}: 4 members of macOS (._*, __MACOSX) are not taken",)


def test_lists_in_messages_are_bounded(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", {f"a.kind{number}": b"x" for number in range(500)} | {"b.txt": b"x"})
    with pytest.raises(BrokenSample, match=r"among its members: \.kind0, .*\.\.\. \(500 in all\)") as caught:
        opened(tmp_path).read(0)
    assert len(str(caught.value)) < 500
    with pytest.raises(UserError, match=r"no image, clip, sound or text, only .*\(501 in all\); set key") as refused:
        opened(tmp_path, text="says")
    assert len(str(refused.value)) < 500 + len(str(tmp_path))


@pytest.mark.parametrize("file", ["a.jpg", "a.mp4"])
def test_one_empty_caption_of_five_costs_itself(tmp_path: Path, file: str) -> None:
    shard(tmp_path / "0.tar", {file: b"A", "a.json": b'{"says": ["one", "", null, "two", "\\ud83d"]}'})
    source = opened(tmp_path, text="json.says")
    assert (source.read(0).captions, source.read(0).captions_left_out) == (("one", "two"), 3)
    assert list(source.texts()) == ["one", "two"]


def test_two_texts(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", {"a.json": b'{"one": "first", "two": "second"}', "b.json": b'{"one": "first"}'})
    source = opened(tmp_path, text="json.one", text_pair="json.two")
    assert (source.read(0).text, source.read(0).second) == ("first second", 6)
    with pytest.raises(BrokenSample, match=r"^0\.tar/b: empty text in \.json\.two"):
        source.read(1)


def test_keys_that_name_nothing_in_the_shards_are_said(tmp_path: Path) -> None:
    says = b'{"says": "a dog", "is": 1}'
    shard(tmp_path / "0.tar", {"a.JPG": b"A", "a.TXT": b"a cat", "a.json": says, "a.Seg.png": b"B", "b.jpg": b"C"})
    lacking = "no value {!r} in the .json member of the first 1 samples, for key {!r}"
    notes: list[tuple[dict[str, Any], str]] = [
        ({"text": "TEXT"}, "no member .text for key 'text'; did you mean 'txt'?"),
        ({"text": "json.say"}, f"{lacking.format('say', 'text')}; did you mean 'says'?"),
        ({"id": "name"}, "no member .name for key 'id'; choose one of jpg, json, seg.png, txt"),
        (
            {"classes": ["x", "y"], "label": "json.label"},
            f"{lacking.format('label', 'label')}; choose one of is, says",
        ),
        (
            {"classes": ["x", "y"], "objects": "json.say"},  # and none about a label, which nobody asked for
            f"{lacking.format('say', 'objects')}; did you mean 'says'?",
        ),
    ]
    for options, note in notes:
        assert notes_of(opened(tmp_path, **options)) == (f"{tmp_path / '0.tar'}: {note}",)
    assert notes_of(opened(tmp_path)) == notes_of(opened(tmp_path, text=None)) == ()
    assert notes_of(opened(tmp_path, text="json.says", id="json.is")) == ()


def test_capitals_of_a_key_do_not_matter_as_those_of_a_member_do_not(tmp_path: Path) -> None:
    says = b'{"Says": "x"}'
    shard(tmp_path / "0.tar", {"a.Left.JPG": b"A", "a.Caption.TXT": b"a cat", "a.Class": b"1", "a.JSON": says})
    source = opened(tmp_path, image="Left.JPG", text="Caption.TXT", label="Class", classes=["x", "y"], id="JSON.Says")
    sample = source.read(0)
    assert (sample.id, sample.image, sample.captions, sample.label) == ("x", b"A", ("a cat",), 1)
