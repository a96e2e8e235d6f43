"""An exported folder answers what the model answers, without torch."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.clips import clip_bytes
from tests.exported import CLIPS, CLOSE, LABELS, PICTURES, TEXTS, ExportedModel, difference, exported, tiny_saved
from uniperceiver import UserError, cli
from uniperceiver.runner import Runner

NAMES = (
    "image_classification",
    "image_captioning",
    "text_classification",
    "image_text_retrieval",
    "video_classification",
)
ASKED: dict[str, Callable[[Any], Any]] = {
    "encode_image": lambda model: model.encode_image(PICTURES),
    "encode_image of a task": lambda model: model.encode_image(PICTURES, "image_captioning"),
    "encode_image of nothing": lambda model: model.encode_image([]),
    "encode_video": lambda model: model.encode_video(CLIPS),
    "encode_text": lambda model: model.encode_text(TEXTS),
    "encode_text, a single word": lambda model: model.encode_text(""),
    "rank": lambda model: model.rank(PICTURES, TEXTS),
    "rank clips": lambda model: model.rank(CLIPS, TEXTS[:1], "video_classification"),
    "rank no texts": lambda model: model.rank(PICTURES, []),
    "classify": lambda model: model.classify(PICTURES, LABELS),
    "classify with a template": lambda model: model.classify(PICTURES, ["cat", "dog"], template="a {label} here"),
    "classify by a task": lambda model: model.classify(PICTURES, task="image_classification"),
    "classify clips": lambda model: model.classify(CLIPS, task="video_classification"),
    "classify texts": lambda model: model.classify(["a red circle", "two words"], task="text_classification"),
    "classify texts by labels": lambda model: model.classify(["a red circle is here"], ["one thing", "more"]),
}


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    return exported(tmp_path_factory.mktemp("export") / "dense", tiny_saved(NAMES))


@pytest.mark.parametrize("question", ASKED)
def test_answers_are_those_of_the_model(dense: ExportedModel, question: str) -> None:
    assert difference(ASKED[question], dense) <= CLOSE


@pytest.mark.parametrize(
    "options", [{"beam": 1}, {"beam": 2}, {"beam": 4}, {"beam": 3, "length_penalty": 1.0}, {"max_words": 1}]
)
def test_captions_are_the_same_texts(dense: ExportedModel, options: dict[str, Any]) -> None:
    pictures = [np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8) for seed in range(12)]
    captions = dense.model.caption(pictures, **options)
    assert dense.runner.caption(pictures, **options) == captions
    assert any(captions)


def test_pictures_and_clips_are_asked_about_in_one_call(dense: ExportedModel, tmp_path: Path) -> None:
    files = mixed_files(tmp_path)
    calls: list[Callable[[Any], Any]] = [
        lambda model: model.classify(files, LABELS),
        lambda model: model.rank(files, TEXTS),
    ]
    for ask in calls:
        assert difference(ask, dense) <= CLOSE
    with pytest.raises(UserError, match="caption: no task of the exported model answers this about video"):
        dense.runner.caption(files, 2)


def mixed_files(folder: Path) -> list[Path]:
    """A picture, a clip, and a picture."""
    for name, pixels in zip(("a.png", "c.png"), PICTURES, strict=False):
        Image.fromarray(pixels).save(folder / name)
    (folder / "b.mp4").write_bytes(clip_bytes(6))
    return [folder / name for name in ("a.png", "b.mp4", "c.png")]


def test_what_an_answer_is_made_of(dense: ExportedModel) -> None:
    why, expected = dense.runner.explain(PICTURES, LABELS), dense.model.explain(PICTURES, LABELS, decisions=False)
    assert why.labels == expected.labels
    assert why.temperature == pytest.approx(expected.temperature)
    assert np.abs(why.cosine_NK - expected.cosine_NK.numpy()).max() <= CLOSE
    assert np.abs(why.probability_NK - expected.probability_NK.numpy()).max() <= CLOSE
    with pytest.raises(UserError, match="what gates decide is not exported"):
        dense.runner.explain(PICTURES, LABELS, decisions=True)


QUESTIONS = (
    ["classify", "--labels", "a red circle", "cat"],
    ["classify", "--task", "image_classification"],
    ["caption"],
    ["rank", "--texts", "a", "b"],
    ["embed"],
)


@pytest.mark.parametrize("question", QUESTIONS, ids=" ".join)
def test_the_command_line_asks_an_export_as_it_asks_the_model(
    dense: ExportedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], question: list[str]
) -> None:
    pictures_alone = "--task" in question or "caption" in question
    files = [str(file) for file in mixed_files(tmp_path) if file.suffix == ".png" or not pictures_alone]
    dense.model.save_pretrained(tmp_path / "model")
    answers = []
    for place in (tmp_path / "model", dense.folder):
        assert cli.main(["predict", str(place), *question, "--json", "--", *files]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    for own, other in zip(*answers, strict=True):
        assert own["file"] == other["file"]
        assert own.get("answer") == other.get("answer")
        assert own.get("scores", {}) == pytest.approx(other.get("scores", {}), abs=CLOSE)
        assert own.get("vector", []) == pytest.approx(other.get("vector", []), abs=CLOSE)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--step", "1"], "an export has no steps and no code"),
        (["--trust"], "an export has no steps and no code"),
        (["--device", "cuda"], "an export runs on the CPU"),
        (["--task", "colours"], "unknown task 'colours'"),
    ],
)
def test_what_the_command_line_cannot_ask_an_export(
    dense: ExportedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    (file, *_) = mixed_files(tmp_path)
    assert cli.main(["predict", str(dense.folder), "classify", "--labels", "a", "b", *words, "--", str(file)]) == 2
    assert says in capsys.readouterr().err


def test_batches_do_not_matter(dense: ExportedModel) -> None:
    runner = Runner(dense.folder, batch=3)
    assert np.abs(runner.encode_image(PICTURES) - dense.runner.encode_image(PICTURES)).max() <= CLOSE
    assert runner.caption(PICTURES, 2) == dense.runner.caption(PICTURES, 2)


def test_encoded_files_and_names_are_read_as_the_model_reads_them(dense: ExportedModel, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(PICTURES[0]).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    for picture in (buffer.getvalue(), tmp_path / "a.png", Image.fromarray(PICTURES[0])):
        assert difference(lambda model, picture=picture: model.encode_image(picture), dense) <= CLOSE


def test_tasks_labels_and_preprocessing_are_told(dense: ExportedModel) -> None:
    runner = dense.runner
    assert list(runner.tasks) == list(dense.model.tasks)
    assert runner.labels("image_classification") == dense.model.labels("image_classification")
    assert runner.preprocess == dense.model.preprocess
    assert runner.tokenizer == dense.model.tokenizer


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda runner: runner.classify(PICTURES), "give labels"),
        (lambda runner: runner.classify(PICTURES, ["alone"]), "alone has probability 1"),
        (lambda runner: runner.classify(PICTURES, task="colours"), "unknown task 'colours'"),
        (lambda runner: runner.classify(PICTURES, task="image_captioning"), "cannot be asked of task"),
        (lambda runner: runner.encode_image(CLIPS[0][0], 7), "a int is no task"),
        (lambda runner: runner.caption(PICTURES, 0), "beam must lie between"),
        (lambda runner: runner.classify([" "], task="text_classification"), "has no text"),
        (
            lambda runner: runner.classify(PICTURES, task="image_classification", texts="why?"),
            "cannot be asked of task",
        ),
        (lambda runner: runner.detect(PICTURES), "detect: no task of the exported model answers this about image"),
        (lambda runner: runner.encode_image(b"no picture"), "give another file"),
    ],
)
def test_what_cannot_be_answered_is_one_line(dense: ExportedModel, ask: Callable[[Runner], Any], says: str) -> None:
    with pytest.raises(UserError, match=says) as raised:
        ask(dense.runner)
    assert "\n" not in str(raised.value)


WITHOUT_TORCH = """
import sys
from importlib.abc import MetaPathFinder
class NoTorch(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "safetensors", "rich", "onnx", "onnxscript", "matplotlib"}:
            raise ImportError(f"{name} is hidden")
sys.meta_path.insert(0, NoTorch())
import numpy
from uniperceiver.runner import Runner
runner = Runner(sys.argv[1])
picture = numpy.zeros((32, 32, 3), dtype=numpy.uint8)
runner.encode_text("a text that is so long that it is cut " * 20)
print(runner.classify(picture, ["a", "b"]).shape, runner.rank(picture, ["a"]).shape, len(runner.caption(picture)))
runner.encode_video(numpy.zeros((1, 4, 32, 32, 3), dtype=numpy.uint8))
from PIL import Image
Image.fromarray(picture).save(sys.argv[2])
from uniperceiver.cli import main
assert main(["predict", sys.argv[1], "classify", "--labels", "a", "b", "--", sys.argv[2]]) == 0
assert "torch" not in sys.modules
"""


def test_nothing_of_it_needs_torch(dense: ExportedModel, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(dense.folder), str(tmp_path / "a.png")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "(1, 2) (1, 1) 1"
    assert "were cut" in done.stderr


def damage(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("onnx/vision_model.onnx", "is not the file that was exported"),
        ("uniperceiver.json", "uniperceiver.json"),
        ("labels.safetensors", "missing, truncated or damaged"),
        ("encoder.json", "no such file"),
    ],
)
def test_a_damaged_folder_is_one_line(dense: ExportedModel, tmp_path: Path, name: str, says: str) -> None:
    folder = tmp_path / "copy"
    for path in dense.folder.rglob("*.*"):
        (folder / path.relative_to(dense.folder)).parent.mkdir(parents=True, exist_ok=True)
        (folder / path.relative_to(dense.folder)).write_bytes(path.read_bytes())
    assert Runner(folder).encode_image(PICTURES[0]).shape == (1, 16)
    if name.startswith("onnx"):
        damage(folder, name)
    elif name == "encoder.json":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes((folder / name).read_bytes()[:-9])
    with pytest.raises(UserError, match=says):
        Runner(folder).classify(PICTURES, task="image_classification")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="uniperceiver export"):
        Runner(tmp_path)
