"""`uniperceiver data check`: planted faults are found, nothing else is; counts, sizes and lengths are right."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.data_check import compare, plant, recipe_of, run
from benchmarks.faulty_data import KINDS
from tests.small_run import values_of, write_recipe
from tests.tiny import tiny_codec
from uniperceiver.cli import main
from uniperceiver.cli.data_lines import check_lines
from uniperceiver.config import parse_recipe
from uniperceiver.data.formats.coco_captions import CocoCaptionsData
from uniperceiver.data.prepare.check import DataReport, Spread, check_data
from uniperceiver.serving.locate import model_folder

FAULTS = sum(len(kind.faults) for kind in KINDS.values())


def checked(folder: Path, tasks: dict[str, Any], workers: int = 0, **more: Any) -> DataReport:
    """The report on a recipe with these tasks."""
    return check_data(
        parse_recipe({"tasks": tasks, **more}, {}, "recipe"), folder, workers, find_model=model_folder, quiet=True
    )


def test_all_planted_faults_are_found_and_nothing_else() -> None:
    result = run(400, 2 * FAULTS, workers=2, quiet=True)
    assert (result.missed, result.wrong) == ((), ())
    assert result.named == result.planted == 2 * FAULTS
    assert result.samples == 400


def test_the_comparison_notices_what_is_missed_and_what_is_wrong(tmp_path: Path) -> None:
    planted = plant(tmp_path, 120, 6)
    report = check_data(parse_recipe(recipe_of(), {}, "recipe"), tmp_path, 0, find_model=model_folder, quiet=True)
    assert compare(report, planted, 0, 0.0).exact
    (name, sample), reason = next(iter(planted.items()))
    other = {**planted, (name, sample): "another reason", (name, "absent.jpg"): reason}
    result = compare(report, other, 0, 0.0)
    assert result.missed == (f"{name}: absent.jpg",)
    assert len(result.wrong) == 1


def pictures(folder: Path, sizes: dict[str, tuple[int, int]]) -> None:
    """PNG files of these widths and heights."""
    for name, (width, height) in sizes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((height, width, 3), dtype=np.uint8)).save(folder / name)


def test_sizes_and_classes(tmp_path: Path) -> None:
    sizes = {"cat/1.png": (10, 40), "cat/2.png": (30, 20), "cat/3.png": (20, 30), "red_dog/4.png": (90, 30)}
    pictures(tmp_path / "things", sizes)
    rows = [{"file": name, "is": name.split("/")[0]} for name in sizes]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"format": "jsonl", "path": "rows.jsonl", "image": "file", "label": "is", "files": "things"}
    train = {**source, "classes": ["cat", "bird", "red_dog"]}
    report = checked(tmp_path, {"things": {"kind": "image_classification", "train": train}})
    (one,) = report.sets
    assert one.sizes == {
        "image width": Spread(least=10, median=20, most=90),
        "image height": Spread(least=20, median=30, most=40),
    }
    assert one.classes is not None
    assert (one.classes.classes, one.classes.empty) == (3, ("bird",))
    assert (one.classes.smallest, one.classes.smallest_samples) == ("red_dog", 1)
    assert (one.classes.largest, one.classes.largest_samples) == ("cat", 3)
    assert report.tokenizer is None
    assert list(check_lines(report)) == [
        "things/train (jsonl): 4 samples, 0 broken",
        "  images: width 10 to 90, median 20; height 20 to 40, median 30",
        "  classes: 3, from 1 (red_dog) to 3 samples (cat)",
        "  classes without a sample: bird",
        "0 of 4 samples are broken",
    ]


def test_clips_are_counted_in_frames(tmp_path: Path) -> None:
    KINDS["clips"].write(tmp_path / "clips", 3, {})
    (one,) = checked(tmp_path, {"c": {"kind": "video_classification", "train": dict(KINDS["clips"].source)}}).sets
    assert {name: size.median for name, size in one.sizes.items()} == {
        "clip width": 48,
        "clip height": 32,
        "clip frames": 5,
    }


def captions(folder: Path, texts: dict[str, list[str]], twice: str | None = None) -> dict[str, Any]:
    """A source of pictures with captions; `twice` is one that has two ids."""
    pictures(folder / "pictures", dict.fromkeys(texts, (8, 8)))
    images = [{"id": 3 * place, "file_name": name} for place, name in enumerate(texts)]
    notes = [{"image_id": one["id"], "caption": text} for one in images for text in texts[str(one["file_name"])]]
    if twice is not None:
        images.append({"id": 1000, "file_name": twice})
        notes.append({"image_id": 1000, "caption": "again"})
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": notes}))
    return {"format": "coco_captions", "path": "captions.json", "images": "pictures"}


def test_lengths_of_texts_in_tokens_and_how_many_are_cut(tmp_path: Path) -> None:
    codec = tiny_codec()
    codec.save(tmp_path / "tokenizer.json")
    texts = ["a red square", "a circle", "a small yellow triangle is left of a large blue circle"]
    lengths = sorted(len(codec.encode(text)) + 1 for text in texts)  # and the end token
    source = captions(tmp_path, {"a.png": texts[:2], "b.png": texts[2:]})
    (tmp_path / "lines.txt").write_text("\n".join(texts))
    tasks = {
        "captions": {"kind": "image_captioning", "train": source, "length": lengths[1]},
        "retrieval": {"kind": "image_text_retrieval", "train": source, "length": lengths[2]},
        "words": {"kind": "masked_language_modelling", "train": {"format": "text", "path": "lines.txt"}, "length": 3},
    }
    report = checked(tmp_path, tasks, model={"vocabulary": "tokenizer.json"})
    found = {text.use: text for one in report.sets for text in one.texts}
    assert {name: (text.texts, text.longer) for name, text in found.items()} == {
        "captions/train": (3, 1),
        "retrieval/train": (3, 0),
        "words/train": (3, sum(length > 3 for length in lengths)),
    }
    assert found["captions/train"].tokens == Spread(least=lengths[0], median=lengths[1], most=lengths[2])
    assert found["words/train"].tokens == found["captions/train"].tokens
    assert report.tokenizer == "tokenizer.json"
    learnt = checked(tmp_path, tasks, model={"vocabulary": 300}).tokenizer
    assert learnt is not None
    assert learnt.endswith("entries learnt from the recipe's texts, as train does")


def test_a_template_counts_with_its_text(tmp_path: Path) -> None:
    codec = tiny_codec()
    codec.save(tmp_path / "tokenizer.json")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "a red square", "is": "one"}))
    source = {"format": "jsonl", "path": "rows.jsonl", "text": "text", "label": "is"}
    task = {"kind": "text_classification", "train": source, "template": "see {text} : it is {answer}"}
    task["length"] = 5
    report = checked(tmp_path, {"t": task}, model={"vocabulary": "tokenizer.json"})
    whole = sum(len(codec.encode(part)) for part in ("see ", "a red square", " : it is ")) + 2
    assert report.sets[0].texts[0].tokens.most == whole
    assert report.sets[0].texts[0].longer == 1


def test_a_source_of_several_tasks_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = captions(tmp_path, {f"{index}.png": ["a red square"] for index in range(5)})
    read: list[int] = []
    plain = CocoCaptionsData.read
    monkeypatch.setattr(CocoCaptionsData, "read", lambda data, index: read.append(index) or plain(data, index))
    part = {**source, "part": [0, 0.4]}
    tasks = {
        "captions": {"kind": "image_captioning", "train": source, "val": part},
        "retrieval": {"kind": "image_text_retrieval", "train": dict(reversed(source.items())), "val": source},
    }
    report = checked(tmp_path, tasks)
    assert [one.used_by for one in report.sets] == [
        ("captions/train", "retrieval/train", "retrieval/val"),
        ("captions/val",),
    ]
    assert report.samples == 5 + 2
    assert len(read) == 5 + 2


def test_what_one_task_lacks_another_may_not_need(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures", {"a.png": (8, 8), "b.png": (8, 8)})
    rows = [{"image": "a.png", "is": "x", "says": "a picture"}, {"image": "b.png", "is": "y"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"format": "jsonl", "path": "rows.jsonl", "image": "image", "label": "is", "files": "pictures"}
    tasks = {
        "things": {"kind": "image_classification", "train": source},
        "captions": {"kind": "image_captioning", "train": source},
    }
    report = checked(tmp_path, tasks)
    (one,) = report.sets
    assert one.broken == 2
    assert [(fault.sample, fault.reason, fault.uses) for fault in one.faults] == [
        (f"rows.jsonl:{line}", "has no caption", ("captions/train",)) for line in (1, 2)
    ]
    assert "  broken: rows.jsonl:1: has no caption (for captions/train)" in check_lines(report)
    assert one.classes is not None
    assert one.classes.largest_samples == 1


def test_names_that_occur_twice(tmp_path: Path) -> None:
    source = captions(tmp_path, {"a.png": ["a"], "b.png": ["b"]}, twice="b.png")
    report = checked(tmp_path, {"captions": {"kind": "image_captioning", "train": source}})
    assert report.sets[0].named_twice == {"b.png": 2}
    assert report.broken == 0
    assert not report.clean
    assert "  one name, 2 samples: b.png" in check_lines(report)


@pytest.mark.parametrize("bad", [False, True])
def test_the_command(bad: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = KINDS["pictures"].write(tmp_path / "pictures", 6, {3: "html"} if bad else {})
    recipe = write_recipe(tmp_path / "r.yaml", recipe_of(["pictures"]))
    assert main(["data", "check", str(recipe), "--workers", "0"]) == int(bad)
    said = capsys.readouterr().out
    assert f"{int(bad)} of 6 samples are broken" in said
    assert ("  broken: dog/000003.jpg: not a JPEG" in said) == bad
    assert main(["data", "check", "--json", str(recipe), "data.max_broken=0.5", "--workers", "2"]) == int(bad)
    values = json.loads(capsys.readouterr().out)
    assert [fault["sample"] for fault in values["sets"][0]["faults"]] == list(names.values())
    assert values["sets"][0]["sizes"]["image width"] == {"least": 48, "median": 48, "most": 48}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{tmp}/absent.yaml"], "absent.yaml: no such file"),
        (["{recipe}", "stepz=1"], "unknown key 'stepz'; did you mean 'steps'?"),
        (["{recipe}", "tasks.colours.train.format=foldr"], "unknown format 'foldr'; did you mean 'folder'?"),
        (["{recipe}", "--workers", "-1"], "--workers: -1 is no number of processes"),
        (["{recipe}", "model.start={tmp}"], "neither a saved model"),
        (["{recipe}", "model.vocabulary=absent.json"], "absent.json: "),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", values_of())
    assert main(["data", "check", *(word.format(tmp=tmp_path, recipe=recipe) for word in words)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_the_words_of_a_start_are_its_own(trained: Path, tmp_path: Path) -> None:
    source = captions(tmp_path, {"a.png": ["a red square"]})
    task = {"captions": {"kind": "image_captioning", "train": source}}
    report = checked(tmp_path, task, model={"start": str(trained)})
    assert report.tokenizer == f"that of {trained}"
    assert report.sets[0].texts[0].texts == 1


def test_help_of_both_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("check", "prepare"):
        with pytest.raises(SystemExit) as end:
            main(["data", command, "--help"])
        assert not end.value.code
        assert f"uniperceiver data {command}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["data", "check", "r.yaml", "--oops"])
    assert "see uniperceiver data check --help" in capsys.readouterr().err
