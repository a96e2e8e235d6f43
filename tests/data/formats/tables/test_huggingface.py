"""Data sets of Hugging Face: saved to disk, and folders that its library can load."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.made_data import CLASSES, clip, hugging_face, items, write_files
from uniperceiver.data.formats import Source, class_names, open_source
from uniperceiver.data.media.clips import decode_clip
from uniperceiver.errors import BrokenSample, UserError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the library makes of other files goes into the test's folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def opened(root: Path, **keys: Any) -> Source:
    return open_source({"format": "huggingface", "path": "d", "image": "image"} | keys, "w", root)


def test_splits_are_chosen_by_name(tmp_path: Path) -> None:
    made = hugging_face(items())
    splits = datasets.DatasetDict(train=made.select([0, 1, 2, 3]), validation=made.select([5, 4]))
    splits.save_to_disk(tmp_path / "d")
    source = opened(tmp_path, split="validation", label="label", captions="captions")
    samples = [source.read(index) for index in range(len(source))]
    assert [sample.id for sample in samples] == ["d/validation:0", "d/validation:1"]
    assert [sample.image for sample in samples] == [items()[5].data, items()[4].data]
    assert [sample.label for sample in samples] == [2, 2]
    assert class_names(source) == CLASSES
    assert list(source.texts()) == ["hot air balloon", "owl", "zebra", samples[0].captions[0], samples[1].captions[0]]
    with pytest.raises(UserError, match=r"has the splits train, validation; set key split to one of them$"):
        opened(tmp_path)
    with pytest.raises(UserError, match=r"has no split 'valid'; did you mean 'validation'\?"):
        opened(tmp_path, split="valid")


def test_a_data_set_without_splits(tmp_path: Path) -> None:
    hugging_face(items()).save_to_disk(tmp_path / "d")
    assert opened(tmp_path).read(1).id == "d:1"
    with pytest.raises(UserError, match=r"split 'train': .* has no splits; leave the key out"):
        opened(tmp_path, split="train")


def test_a_row_without_a_label_is_broken(tmp_path: Path) -> None:
    features = datasets.Features({"t": datasets.Value("string"), "k": datasets.ClassLabel(names=["a", "b"])})
    made = datasets.Dataset.from_dict({"t": ["x", "y", "z", ""], "k": [1, -1, None, 0]}, features=features)
    made.save_to_disk(tmp_path / "d")
    source = opened(tmp_path, image=None, text="t", label="k")
    assert (source.read(0).text, source.read(0).label) == ("x", 1)
    for index, reason in ((1, "no label in column 'k'"), (2, "no label"), (3, "empty text in column 't'")):
        with pytest.raises(BrokenSample, match=rf"^d:{index}: {reason}"):
            source.read(index)
    assert len(opened(tmp_path, image=None, text="t", rows={"k": "b"})) == 1


def test_an_image_folder_keeps_its_files_where_they_are(tmp_path: Path) -> None:
    write_files(tmp_path / "d" / "train", items())
    source = opened(tmp_path, label="label")
    assert [source.read(index).image for index in range(6)] == [item.data for item in items()]
    assert class_names(source) == CLASSES
    (tmp_path / "d/train/owl/002.png").write_bytes(b"changed")
    assert pickle.loads(pickle.dumps(source)).read(2).image == b"changed"


def test_clips_are_not_decoded_by_the_library(tmp_path: Path) -> None:
    features = datasets.Features({"v": datasets.Video(), "p": datasets.Value("string")})
    rows = {"v": [{"bytes": clip(3), "path": "a.mp4"}], "p": ["a.mp4"]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "d")
    frames_FHWC = decode_clip(opened(tmp_path, image=None, clip="v").read(0).clip, "", lambda count: range(count))  # type: ignore[arg-type, return-value]
    assert frames_FHWC.shape == (3, 32, 32, 3)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.mp4").write_bytes(b"V")
    assert opened(tmp_path, image=None, clip="p", files="clips").read(0).clip == b"V"


def test_rows_with_one_file_are_gathered(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("A")
    rows = {"f": ["a.png", "b.png", "a.png"], "c": ["x", "y", "z"]}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "d")
    source = opened(tmp_path, image="f", captions="c", files=".")
    assert len(source) == 2
    assert source.read(0).captions == ("x", "z")


def damaged(root: Path) -> None:
    hugging_face(items()).save_to_disk(root / "d")
    with open(root / "d/data-00000-of-00001.arrow", "r+b") as file:
        file.truncate(300)


def described_wrongly(root: Path) -> None:
    hugging_face(items()).save_to_disk(root / "d")
    (root / "d/state.json").write_text("[]")


def script(root: Path) -> None:
    (root / "d").mkdir()
    (root / "d/d.py").write_text(f"open({str(root / 'ran')!r}, 'w').close()\n")


def a_pickle(root: Path) -> None:
    (root / "d").mkdir()
    (root / "d/data.pkl").write_bytes(b"cbuiltins\nopen\n(S'" + str(root / "ran").encode() + b"'\nS'w'\ntR.")


@pytest.mark.parametrize("make", [damaged, described_wrongly, script, a_pickle, lambda root: (root / "d").mkdir()])
def test_what_cannot_be_opened_is_one_line_and_nothing_runs(tmp_path: Path, make: Any) -> None:
    make(tmp_path)
    with pytest.raises(UserError, match=r"^w: .*d: cannot be opened \(\w+: ") as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"path": None}, r"give one of the keys path \(a folder\) and hub"),
        ({"hub": "some/body"}, "give one of the keys path"),
        ({"path": "e"}, "e: no such file or folder; did you mean 'd'|choose one of"),
        ({"image": "img"}, "no column 'img'; did you mean 'image'"),
        ({"config": "small"}, "was saved to disk, without configurations; leave key config out"),
        ({"revision": "main"}, "key 'revision' is for data sets on the hub"),
    ],
)
def test_what_a_user_can_mend(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    hugging_face(items(3)).save_to_disk(tmp_path / "d")
    with pytest.raises(UserError, match=f"^w: .*{message}"):
        opened(tmp_path, **keys)


def test_the_hub_is_asked_only_by_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def load(path: str, **options: Any) -> Any:
        asked.append((path, options))
        return datasets.DatasetDict(train=hugging_face(items(3)))

    monkeypatch.setattr(datasets, "load_dataset", load)
    source = opened(tmp_path, path=None, hub="some/body", revision="v1", config="small")
    assert asked == [("some/body", {"name": "small", "revision": "v1"})]
    assert source.read(2).id == "some/body:2"


def test_texts_of_type_binary_are_texts_everywhere(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"t": [b"one", b"two"], "k": [b"x", b"y"]}).save_to_disk(tmp_path / "d")
    source = opened(tmp_path, image=None, text="t", label="k", rows={"k": "y"})
    assert (class_names(source), source.read(0).text, source.read(0).label) == (("x", "y"), "two", 1)
    assert list(source.texts()) == ["x", "y", "two"]


def test_lists_of_classes_are_several_right_ones(tmp_path: Path) -> None:
    features = datasets.Features(t=datasets.Value("string"), k=datasets.Sequence(datasets.ClassLabel(names=["x", "y"])))
    made = datasets.Dataset.from_dict({"t": ["a", "b"], "k": [[1, 0], [1]]}, features=features)
    made.save_to_disk(tmp_path / "d")
    made.to_parquet(tmp_path / "t.parquet")
    for source in (
        opened(tmp_path, image=None, text="t", label="k"),
        open_source({"format": "parquet", "path": "t.parquet", "text": "t", "label": "k"}, "w", tmp_path),
    ):
        assert class_names(source) == ("x", "y")
        assert (source.read(0).labels, source.read(1).label) == ((1, 0), 1)
