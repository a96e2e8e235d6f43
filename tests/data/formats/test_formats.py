"""The table of formats: the right one is picked, and the wrong ones are told."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from uniperceiver.data.formats import FORMATS, class_names, classes_of, open_source
from uniperceiver.data.formats.subset import named_samples
from uniperceiver.data.formats.tables.columns import Columns
from uniperceiver.errors import UserError
from uniperceiver.records import Sample
from uniperceiver.strict import record

COLUMNS = [name for name, each in FORMATS.items() if issubclass(each, Columns)]
_GIVEN = os.environ.get("UNIPERCEIVER_DATA")
DATA = Path(_GIVEN) if _GIVEN else Path(__file__).parents[4] / "shared" / "data"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"path": "x"}, "r.yaml: train: key 'format' is missing; choose one of arrays, beside, coco_captions, "),
        ({"format": "foldre", "path": "x"}, "r.yaml: train: unknown format 'foldre'; did you mean 'folder'?"),
        ({"format": 7}, "r.yaml: train: unknown format 7; choose one of "),
        ({"format": "folder", "pth": "x"}, "r.yaml: train: unknown key 'pth'; did you mean 'path'?"),
        ({"format": "folder", "path": "x", "onyl": "x"}, "r.yaml: train: unknown key 'onyl'; did you mean 'only'?"),
        (
            {"format": "folder", "path": "x", "part_sed": 1},
            "r.yaml: train: unknown key 'part_sed'; did you mean 'part_s",
        ),
        ({"format": "text", "path": "x", "min_words": -1}, "r.yaml: train: key 'min_words' has a wrong value -1"),
    ],
)
def test_wrong_options(spec: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        open_source(spec, "r.yaml: train", tmp_path)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("format_", sorted(set(FORMATS) - {"scenes"}))
def test_a_missing_path_is_one_line_that_offers_the_nearest(format_: str, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with_images = ("coco_captions", "coco_instances", "voc", "mask_folder")
    more = {name: {"images": "."} for name in with_images} | {name: {"text": "t"} for name in COLUMNS}
    keys = more.get(format_, {})
    with pytest.raises(UserError, match=r"trian: no such file or folder; did you mean 'train'\?") as caught:
        open_source({"format": format_, "path": "trian", **keys}, "here", tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="relative paths start at the recipe's folder"):
        open_source({"format": format_, "path": "no/such/place", **keys}, "here", tmp_path)


def test_embedded_scenes_open_without_files(tmp_path: Path) -> None:
    source = open_source({"format": "scenes", "items": 3, "label": "shape"}, "here", tmp_path)
    assert len(source) == 3
    names = class_names(source)
    assert names is not None
    assert names[0] == classes_of(source, "here")[0][0]


def test_lists_of_lines_and_of_generated_scenes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\nthree\n")
    (tmp_path / "list.txt").write_text("a.txt:3\n")
    source = open_source({"format": "text", "path": "a.txt", "only": "list.txt"}, "w", tmp_path)
    assert [source.read(index).text for index in range(len(source))] == ["three"]
    (tmp_path / "list.txt").write_text("scenes/val/000002\nscenes/val/000001\n")
    scenes = {"format": "scenes", "items": 4, "split": "val", "pixels": 32}
    few, all_ = (open_source({**scenes, **more}, "w", tmp_path) for more in ({"only": "list.txt"}, {}))
    assert [few.read(index).id for index in range(2)] == [all_.read(index).id for index in (1, 2)]


def test_a_source_of_others_has_no_lists(tmp_path: Path) -> None:
    """A format that somebody added need not know its samples' names."""

    class Other:
        classes = None

        def __len__(self) -> int:
            return 1

        def read(self, index: int) -> Sample:
            return Sample(id="x")

        def texts(self) -> Iterator[str]:
            return iter(())

    (tmp_path / "list.txt").write_text("x\n")
    with pytest.raises(UserError, match=r"^w: only: the samples of this format have no names; leave"):
        named_samples(Other(), "list.txt", tmp_path, "w")


@record
class Counting:
    """A format of somebody else: numbers as texts."""

    most: int

    def open(self, base: Path, where: str) -> "Counting":
        if not base.is_dir():
            raise UserError(f"{where}: {base}: no such folder")
        return self

    @property
    def classes(self) -> None:
        return None

    def __len__(self) -> int:
        return self.most

    def read(self, index: int) -> Sample:
        return Sample(id=str(index), text=str(index))

    def texts(self) -> Iterator[str]:
        return map(str, range(self.most))


def test_a_format_is_one_record_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "counting", Counting)
    source = open_source({"format": "counting", "most": 10, "part": [0, 0.3]}, "w", tmp_path)
    assert len(source) == 3
    assert len({source.read(index).text for index in range(3)}) == 3
    for spec, message in (
        ({"most": 10, "moost": 1}, "w: unknown key 'moost'; did you mean 'most'?"),
        ({"most": "x"}, "w: key 'most' has a wrong value 'x'"),
    ):
        with pytest.raises(UserError) as caught:
            open_source({"format": "counting", **spec}, "w", tmp_path)
        assert str(caught.value).startswith(message)
    with pytest.raises(UserError, match=r"w: .*nowhere: no such folder"):
        open_source({"format": "counting", "most": 1}, "w", tmp_path / "nowhere")


def test_a_source_without_classes_says_how_to_give_them(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some words\n")
    source = open_source({"format": "text", "path": "a.txt"}, "here", tmp_path)
    assert class_names(source) is None
    with pytest.raises(UserError, match=r"^here: these data have no classes; .*'classes'"):
        classes_of(source, "here")


REAL = {
    "clothing10": (3068, 10, {"format": "folder", "path": "clothing10/train"}),
    "caltech101": (
        4506,
        100,
        {"format": "webdataset", "path": "caltech101/train", "classes": "caltech101/classes.txt"},
    ),
    "motion8": (160, 8, {"format": "webdataset", "path": "motion8/val", "classes": "motion8/classes.txt"}),
    "coco_open": (
        39,
        0,
        {"format": "coco_captions", "path": "coco_open/captions_train.json", "images": "coco_open/train"},
    ),
    "text_pd": (50, 0, {"format": "text", "path": "text_pd/speeches_val.txt", "min_words": 128}),
    "text_cls": (
        1048,
        2,
        {"format": "tsv", "path": "text_cls/sentence_polarity/val.tsv", "text": "sentence", "label": "label"},
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_real_data(name: str) -> None:
    size, classes, spec = REAL[name]
    if not (DATA / name).is_dir():
        pytest.skip(f"no {name}: set UNIPERCEIVER_DATA to the folder of the small real data sets")
    source = open_source(spec, "here", DATA)
    assert len(source) == size
    assert len(source.classes or ()) == classes
    for index in range(0, len(source), max(1, len(source) // 20)):
        sample = source.read(index)
        assert sample.image or sample.clip or sample.text
        assert (sample.label is not None) == (classes > 0)
    assert next(iter(source.texts()))
