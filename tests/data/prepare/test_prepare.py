"""`uniperceiver data prepare`: the same samples, smaller; whole shards whenever it is killed; a recipe that trains."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from benchmarks import faulty_data
from benchmarks.faulty_data import CLASSES, KINDS
from tests.small_run import BASE, IMAGES, TEXTS, write_recipe
from uniperceiver.cli import main
from uniperceiver.config import read_recipe
from uniperceiver.data.media.clips import clip_extent
from uniperceiver.data.media.decode import decode_image
from uniperceiver.data.prepare import prepare as data_prepare
from uniperceiver.data.prepare.check import check_data
from uniperceiver.data.prepare.prepare import PreparedData, prepare_data
from uniperceiver.data.prepare.recode import RECODERS
from uniperceiver.data.tasks import TaskData, open_tasks
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.records import Sample
from uniperceiver.serving.locate import model_folder
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.task import Task

LABELLED = {**IMAGES, "label": "shape"}


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_prepare, "_LEAST", 4)
    monkeypatch.setattr(data_prepare, "_SHARDS", 3)


def prepared(folder: Path, tasks: dict[str, Any], workers: int = 0, **more: Any) -> tuple[PreparedData, list[TaskData]]:
    """What was written, and its tasks as they are read there."""
    path = write_recipe(folder / "recipe.yaml", {**BASE, "tasks": tasks, **more})
    done = prepare_data(path, [], folder / "out", workers, quiet=True)
    return done, opened(folder / "out" / "recipe.yaml")


def opened(path: Path) -> list[TaskData]:
    """The tasks of a recipe file."""
    return open_tasks(read_recipe(path), path.parent)


def read_all(data: TaskData, split: str = "train") -> list[Sample]:
    """All samples of a split that are not broken."""
    samples = []
    for index in range(len(data.sources[split])):
        try:
            samples.append(data.sources[split].read(index))
        except BrokenSample:
            continue
    return samples


def test_all_kinds_of_tasks_read_the_same(tmp_path: Path) -> None:
    for name in KINDS:
        KINDS[name].write(tmp_path / name, 13, {})
    tasks = {
        name: {**kind.task, "train": dict(kind.source), "val": {**kind.source, "part": [0.5, 1]}, "size": 32}
        for name, kind in KINDS.items()
    }
    tasks["scenes"] = {"kind": "image_classification", "train": LABELLED, "size": 32}
    tasks["texts"] = {"kind": "text_classification", "train": {**TEXTS, "label": "relation"}}
    done, new = prepared(tmp_path, tasks, workers=2)
    assert {one.broken for one in done.sets} == {0}
    for before, after in zip(opened(tmp_path / "recipe.yaml"), new, strict=True):
        assert after.task == before.task  # also the texts of its classes
        assert after.sources.keys() == before.sources.keys()
        for split in before.sources:
            ours, theirs = read_all(after, split), read_all(before, split)
            assert len(ours) == len(theirs) > 5
            for one, other in zip(ours, theirs, strict=True):
                assert (one.id, one.label, one.captions, one.text) == (
                    other.id,
                    other.label,
                    other.captions if before.task.visual else (),
                    None if before.task.visual else other.text,
                )
                assert (one.image is None, one.clip is None) == (other.image is None, other.clip is None)
    assert not check_data(
        read_recipe(tmp_path / "out" / "recipe.yaml"), tmp_path / "out", 0, find_model=model_folder, quiet=True
    ).broken


def picture(width: int, height: int) -> np.ndarray:
    """Slow colours, so that a smaller picture looks the same."""
    small = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(
    ("task", "split", "side"),
    [
        ({"size": 32}, "train", 32),
        ({"size": 32, "late": {"size": 48}}, "train", 48),
        ({"size": 32, "augment": {"crop": 0.64}}, "train", 40),
        ({"size": 32, "augment": {"crop": 0.08}}, "train", 48),
        ({"size": 32, "augment": {"crop": 0.08}}, "val", 32),
    ],
)
def test_pictures_are_as_large_as_training_needs(task: dict[str, Any], split: str, side: int, tmp_path: Path) -> None:
    x_HWC = picture(300, 200)
    for name in CLASSES:
        (tmp_path / "pictures" / name).mkdir(parents=True)
        Image.fromarray(x_HWC).save(tmp_path / "pictures" / name / "large.png")
        (tmp_path / "pictures" / name / "small.jpg").write_bytes(small_file())
    source = {"format": "folder", "path": "pictures"}
    _, (data,) = prepared(tmp_path, {"p": {"kind": "image_classification", split: source, **task}})
    samples = {sample.id: sample.image for sample in read_all(data, split)}
    assert samples["cat/small.jpg"] == small_file()  # not a byte has changed
    large = samples["cat/large.png"]
    assert isinstance(large, bytes)
    assert large[:2] == b"\xff\xd8"
    small_HWC = decode_image(large, "x")
    assert small_HWC.shape == (side, round(side * 1.5), 3)
    expected = np.asarray(Image.fromarray(x_HWC).resize((round(side * 1.5), side), Image.Resampling.BICUBIC))
    assert np.abs(small_HWC.astype(int) - expected).mean() < 4


def small_file() -> bytes:
    """A JPEG that is small enough for all of these tasks."""
    return faulty_data.picture(1)


def test_clips_keep_their_frames(tmp_path: Path) -> None:
    KINDS["clips"].write(tmp_path / "clips", 4, {})
    tasks = {
        "small": {"kind": "video_classification", "train": dict(KINDS["clips"].source), "size": 16, "frames": 2},
        "made": {"kind": "video_captioning", "train": {**IMAGES, "view": "clip", "frames": 3}, "size": 32},
    }
    _, (small, made) = prepared(tmp_path, tasks)
    for sample in read_all(small):
        assert isinstance(sample.clip, bytes)
        extent = clip_extent(sample.clip, sample.id)
        assert (extent.frames, extent.height, extent.width) == (5, 16, 24)
    for sample in read_all(made):
        assert isinstance(sample.clip, bytes)
        assert clip_extent(sample.clip, sample.id).frames == 3
    out = tmp_path / "other"
    out.mkdir()
    KINDS["clips"].write(out / "clips", 4, {})
    _, (same,) = prepared(
        out, {"same": {"kind": "video_classification", "train": dict(KINDS["clips"].source), "size": 64}}
    )
    before = {sample.id: sample.clip for sample in read_all(opened(out / "recipe.yaml")[0])}
    assert {sample.id: sample.clip for sample in read_all(same)} == before


def test_broken_samples_are_left_out_and_listed(tmp_path: Path) -> None:
    faults = {3: "html", 4: "empty", 9: "bomb"}
    names = KINDS["pictures"].write(tmp_path / "pictures", 12, faults)
    rows = KINDS["rows"].write(tmp_path / "rows", 8, {0: "nan"})
    tasks = {name: {**KINDS[name].task, "train": dict(KINDS[name].source)} for name in ("pictures", "rows")}
    done, (pictures, _) = prepared(tmp_path, tasks)
    assert [(one.samples, one.broken) for one in done.sets] == [(9, 3), (7, 1)]
    listed = json.loads((tmp_path / "out" / "broken.json").read_text())
    assert {(one["set"], one["sample"]) for one in listed} == {
        *(("pictures-train", name) for name in names.values()),
        ("rows-train", rows[0]),
    }
    assert all(one["reason"] for one in listed)
    assert len(pictures.sources["train"]) == 9


def test_a_shard_of_broken_samples_only_is_left_out(tmp_path: Path) -> None:
    KINDS["pictures"].write(tmp_path / "pictures", 12, dict.fromkeys(range(12), "empty") | {11: ""})
    task = {"p": {**KINDS["pictures"].task, "train": dict(KINDS["pictures"].source)}}
    done, (data,) = prepared(tmp_path, task)
    assert (done.sets[0].shards, len(data.sources["train"])) == (1, 1)
    nothing = tmp_path / "nothing"
    KINDS["pictures"].write(nothing / "pictures", 4, dict.fromkeys(range(4), "empty"))
    with pytest.raises(UserError, match=r"^p/train: no sample can be read; the first: cat/000000\.jpg: the file is"):
        prepared(nothing, task)


def test_names_of_classes_and_sets_are_only_names(tmp_path: Path) -> None:
    for name in ("1", "cat", "10"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        (tmp_path / "pictures" / name / "x.jpg").write_bytes(small_file())
    source = {"format": "folder", "path": "pictures"}
    tasks = {
        "../up": {"kind": "image_classification", "train": source, "labels": {"cat": ["a cat", "a kitten"]}},
        "a/b": {"kind": "image_classification", "train": {**source, "extensions": ["jpg"]}},
        "a:b": {"kind": "image_classification", "train": {**source, "extensions": ["jpg", "png"]}},
    }
    done, new = prepared(tmp_path, tasks)
    assert [one.name for one in done.sets] == ["_up-train", "a_b-train", "a_b-train_"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pictures", "recipe.yaml"]
    for before, after in zip(opened(tmp_path / "recipe.yaml"), new, strict=True):
        assert after.task == before.task
        assert [each.label for each in read_all(after)] == [each.label for each in read_all(before)]


def test_one_source_of_two_modalities_is_two_sets(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(small_file())
    (tmp_path / "rows.jsonl").write_text(json.dumps({"file": "x.jpg", "says": "some words", "is": "one"}))
    source = {"format": "jsonl", "path": "rows.jsonl", "image": "file", "text": "says", "label": "is"}
    tasks = {
        "see": {"kind": "image_classification", "train": source},
        "read": {"kind": "text_classification", "train": source},
    }
    _, (see, read) = prepared(tmp_path, tasks)
    assert (read_all(see)[0].text, read_all(read)[0].text) == (None, "some words")
    assert read_all(see)[0].image == small_file()


def test_files_of_the_model_are_found_from_there(tmp_path: Path, trained: Path) -> None:
    (tmp_path / "words.json").write_bytes((trained / "tokenizer.json").read_bytes())
    task = {"s": {"kind": "image_classification", "train": LABELLED, "size": 32}}
    prepared(tmp_path, task, model={"vocabulary": "words.json", "width": 16})
    values = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    assert values["model"] == {"vocabulary": str(tmp_path / "words.json"), "width": 16}


def test_the_command_and_training_on_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = {"kind": "image_classification", "train": LABELLED, "val": {**LABELLED, "split": "val"}, "batch": 3}
    recipe = write_recipe(tmp_path / "r.yaml", {**BASE, "tasks": {"s": {**task, "size": 64}}, "steps": 2})
    call = ["data", "prepare", str(recipe), "--out", str(tmp_path / "out"), "--workers", "0", "tasks.s.size=32"]
    assert main(call) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("s-train: 12 samples in 3 shards, ")
    assert said[-1] == f"recipe: {tmp_path / 'out' / 'recipe.yaml'}"
    assert main(call) == 0
    assert capsys.readouterr().out.splitlines() == said
    assert main(["train", str(tmp_path / "out" / "recipe.yaml"), "--out", str(tmp_path / "run")]) == 0
    assert main([*call[:-1], "tasks.s.size=16"]) == 2
    assert "was begun with another recipe or other data; use another --out" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    assert main([*call[:4], str(tmp_path / "full")]) == 2
    assert "holds other files, such as mine.txt; use another --out" in capsys.readouterr().err
    assert main([*call[:4], str(recipe)]) == 2
    assert "cannot be written (File exists); use another --out" in capsys.readouterr().err


def test_tasks_that_a_shard_cannot_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vqa = Task(
        name="vqa",
        inputs=("image", "text"),
        candidates="labels",
        read_at="masked",
        temperature="text_mlm",
        template="{text} {answer}",
    )
    monkeypatch.setitem(CATALOGUE, "vqa", vqa)
    KINDS["pictures"].write(tmp_path / "pictures", 4, {})
    tasks = {"q": {"kind": "vqa", "train": {"format": "folder", "path": "pictures"}}}
    path = write_recipe(tmp_path / "recipe.yaml", {**BASE, "tasks": tasks})
    with pytest.raises(UserError, match=r"^tasks\.q: no shards are written of image and text; leave this task's data"):
        prepare_data(path, [], tmp_path / "out", 0, quiet=True)
    assert not (tmp_path / "out").exists()
    tasks["q"]["kind"] = "image_classification"
    path = write_recipe(tmp_path / "recipe.yaml", {**BASE, "tasks": tasks})
    monkeypatch.delitem(RECODERS, "image")
    with pytest.raises(UserError, match=r"^tasks\.q: no shards are written of image; leave"):
        prepare_data(path, [], tmp_path / "out", 0, quiet=True)


def test_two_texts_stay_two(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("a\tb\tk\nfirst text\tsecond one\tx\nhere\tthere\ty\n")
    source = {"format": "tsv", "path": "t.tsv", "text": "a", "text_pair": "b", "label": "k"}
    _, (data,) = prepared(tmp_path, {"pairs": {"kind": "text_classification", "train": source}})
    assert [(sample.text, sample.second) for sample in read_all(data)] == [
        ("first text second one", 11),
        ("here there", 5),
    ]


def test_several_classes_stay_several(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("t,k\na,x|y\nb,y\nc,y|z|x\n")
    source = {"format": "csv", "path": "t.csv", "text": "t", "label": "k", "separator": "|"}
    _, (data,) = prepared(tmp_path, {"tags": {"kind": "text_tagging", "train": source}})
    assert [(sample.label, sample.labels) for sample in read_all(data)] == [(None, (0, 1)), (1, ()), (None, (1, 2, 0))]
