"""`predict` over folders, lists of labels and texts: what cannot be used is said, tables hold the rest."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from tests import made_data
from uniperceiver import load
from uniperceiver.cli import main
from uniperceiver.errors import UserError
from uniperceiver.serving.predict.predict import _scored
from uniperceiver.serving.predict.words import asked_about


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures, of which one is broken, at two depths, and other files."""
    root = tmp_path_factory.mktemp("files") / "pictures"
    (root / "more").mkdir(parents=True)
    for place, name in enumerate(("b.png", "more/a.png")):
        Image.fromarray(np.full((40, 30, 3), 90 + place, np.uint8)).save(root / name)
    (root / "c.jpg").write_bytes(b"no picture")
    (root / "notes.md").write_text("notes")
    (root / ".hidden.png").write_bytes(b"")
    return root


def answers(capsys: pytest.CaptureFixture[str], words: list[str], code: int = 0) -> list[dict[str, object]]:
    assert main(["predict", *words]) == code
    listed: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return listed


def test_a_folder_is_its_files(trained: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["predict", str(trained), "caption", "--", str(folder)]
    assert main(call) == 2
    assert f"{folder / 'c.jpg'}: not a JPEG" in capsys.readouterr().err
    assert main([*call[:3], "--keep-going", "--json", *call[3:]]) == 1
    streams = capsys.readouterr()
    first, second, third = json.loads(streams.out)
    assert [first["file"], third["file"]] == [str(folder / "b.png"), str(folder / "more" / "a.png")]
    assert second["error"].startswith("not a JPEG")
    lines = streams.err.splitlines()
    assert lines[0] == f"{folder}: 1 file is not taken: 1 .md"
    assert lines[1].startswith(f"{folder / 'c.jpg'}: not a JPEG")
    assert lines[2] == "1 of 3 could not be used"
    assert main(["predict", str(trained), "caption", "--", str(folder / "b.png")]) == 0
    assert capsys.readouterr().out == f"{folder / 'b.png'}: {first['answer']}\n"


def test_what_is_wrong_with_the_question_ends_it(trained: Path, folder: Path) -> None:
    call = ["predict", str(trained), "classify", "--keep-going", "--task", "words", "--", str(folder / "b.png")]
    assert main(call) == 2


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_tables(suffix: str, trained: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / f"answers{suffix}"
    words = [str(trained), "classify", "--labels", "red", "a, blue", "--keep-going", "--json", "--out", str(out)]
    expected = answers(capsys, [*words, "--", str(folder)], code=1)
    if suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(out.read_text(), newline="")))
        assert rows[1]["answer"] == ""
    elif suffix == ".jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    else:
        rows = parquet.read_table(out).to_pylist()
    assert list(rows[0]) == ["file", "answer", "score", "error", "score:red", "score:a, blue"]
    assert [row["file"] for row in rows] == [answer["file"] for answer in expected]
    for row, answer in zip(rows[::2], expected[::2], strict=True):
        assert row["answer"] == answer["answer"]
        assert float(row["score:red"]) == answer["scores"]["red"]  # type: ignore[index]
        assert float(row["score"]) == max(answer["scores"].values())  # type: ignore[attr-defined]
    assert rows[1]["error"].startswith("not a JPEG")


def test_labels_of_a_file_and_templates(
    trained: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.txt").write_text("red\tscarlet\n\nblue\n", encoding="utf-8")
    picture, template = ["--", str(folder / "b.png")], ["--template", "a photo of {label}"]
    call = [str(trained), "classify", "--json", "--labels-file", str(tmp_path / "labels.txt"), *template, *picture]
    (answer,) = answers(capsys, call)
    assert set(answer["scores"]) == {"red", "blue"}  # type: ignore[call-overload]
    plain = [str(trained), "classify", "--json", "--labels", "a photo of red", "a photo of blue", *picture]
    (other,) = answers(capsys, plain)
    assert set(other["scores"].values()).isdisjoint(answer["scores"].values())  # type: ignore[attr-defined]
    for words, message in (
        (["--labels", "a", "b"], "--labels and --labels-file are two sets of candidates; give one of them"),
        (["--template", "a photo"], "write {label} once, where the label stands"),
    ):
        assert main(["predict", *call[:5], *words, *picture]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("modality", "noun"),
    [(None, "images, clips or sounds"), ("image", "images"), ("video", "clips"), ("text", "texts")],
)
def test_a_folder_without_what_is_asked_about_says_what_that_is(
    modality: str | None, noun: str, tmp_path: Path
) -> None:
    (tmp_path / "notes.md").write_text("notes")
    with pytest.raises(UserError, match=f"no {noun} in this folder"):
        asked_about([str(tmp_path)], modality, as_text=False, keep_going=True)


def test_what_is_hidden_below_a_folder_is_not_asked_about(tmp_path: Path) -> None:
    for name in ("b/c.png", ".thumbnails/b/c.png", "b/.c.png", "a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    asked = asked_about([str(tmp_path)], "image", as_text=False, keep_going=False)
    assert asked.things == (tmp_path / "a.png", tmp_path / "b" / "c.png")


def test_texts_of_a_file_and_of_the_command_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "satz.txt"
    path.write_text("a red square\n\na blue circle\n", encoding="utf-8")
    words = [str(trained), "classify", "--task", "relations", "--json"]
    of_file = answers(capsys, [*words, "--", str(path)])
    assert [answer["file"] for answer in of_file] == [f"{path}:1", f"{path}:3"]
    given = answers(capsys, [*words, "--text", "--", "a red square", "a blue circle"])
    assert [answer["scores"] for answer in given] == [answer["scores"] for answer in of_file]
    assert answers(capsys, [*words, "--", str(tmp_path)]) == of_file


def test_pictures_and_clips_are_answered_in_their_order(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("a.png", "b.mp4", "c.png", "d.mp4")
    for number, name in enumerate(names):
        write = made_data.picture if name.endswith("png") else made_data.clip
        (tmp_path / name).write_bytes(write(number))
    files = [str(tmp_path / name) for name in names]
    for question in (
        ["classify", "--labels", "red", "blue"],
        ["caption"],
        ["rank", "--texts", "a red circle", "a blue square"],
    ):
        words = [str(trained), *question, "--json", "--"]
        together = answers(capsys, [*words, str(tmp_path)])
        alone = [answer for file in files for answer in answers(capsys, [*words, file])]
        assert [answer["file"] for answer in together] == files
        for answer, single in zip(together, alone, strict=True):
            assert answer["answer"] == single["answer"]
            assert answer.get("scores") == pytest.approx(single.get("scores"), abs=1e-5)


READ: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    ".csv": lambda path: list(csv.DictReader(path.read_text().splitlines())),
    ".parquet": lambda path: parquet.read_table(path).to_pylist(),
    ".jsonl": lambda path: [json.loads(line) for line in path.read_text().splitlines()],
}


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".parquet", ".jsonl"])
def test_vectors_are_printed_and_written(
    trained: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    (folder.parent / "clip.mp4").write_bytes(made_data.clip(0))
    files = [str(folder / "b.png"), str(folder.parent / "clip.mp4"), str(folder / "c.jpg")]
    words = [str(trained), "embed", "--keep-going"]
    picture, clip, broken = answers(capsys, [*words, "--json", "--", *files], code=1)
    model = load(trained)
    expected_ND = torch.cat([model.encode_image(Path(files[0])), model.encode_video(Path(files[1]))])
    torch.testing.assert_close(torch.tensor([picture["vector"], clip["vector"]]), expected_ND)
    assert str(broken["error"]).startswith("not a JPEG")
    out = tmp_path / f"vectors{suffix}"
    for _ in range(1 if suffix == ".npy" else 2):  # a table takes the place of one
        assert main(["predict", *words, "--out", str(out), "--", *files]) == 1
    assert capsys.readouterr().out.splitlines()[0] == f"3 answers: {out}"
    if suffix == ".npy":
        written = np.load(out)
        assert np.isnan(written[2]).all()
    else:
        rows = READ[suffix](out)
        assert list(rows[0]) == ["file", *(f"v{place}" for place in range(16)), "error"]
        written = np.array([[float(row[f"v{place}"]) for place in range(16)] for row in rows[:2]])
    np.testing.assert_allclose(written[:2], expected_ND, atol=1e-6)


def test_texts_are_embedded_and_no_array_is_overwritten(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = answers(capsys, [str(trained), "embed", "--text", "--json", "--", "a red square"])
    torch.testing.assert_close(torch.tensor([text["vector"]]), load(trained).encode_text("a red square"))
    assert main(["predict", str(trained), "embed", "--text", "--", "a red square"]) == 0
    assert capsys.readouterr().out.startswith("a red square: 16 numbers: ")
    np.save(tmp_path / "there.npy", np.zeros(3))
    for out, question in (("there.npy", "embed"), ("no/vectors.npy", "embed"), ("captions.npy", "caption")):
        assert main(["predict", str(trained), question, "--out", str(tmp_path / out), "--", str(tmp_path)]) == 2
    assert main(["predict", str(trained), "embed", "--text", "--out", str(tmp_path / "there.npy"), "--", "a"]) == 2
    assert "there.npy: is there already" in capsys.readouterr().err
    assert np.load(tmp_path / "there.npy").tolist() == [0, 0, 0]


def test_what_a_task_does_not_look_at_is_named(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.mp4", "c.txt"):
        (tmp_path / name).write_bytes(b"")
    picture, clip, text = (str(tmp_path / name) for name in ("a.png", "b.mp4", "c.txt"))
    assert main(["predict", str(trained), "classify", "--labels", "a", "b", "--", picture, text]) == 2
    assert "1 images and 1 texts; ask about one of them at a time, or name a task" in capsys.readouterr().err
    assert main(["predict", str(trained), "classify", "--task", "motions", "--", clip, picture]) == 2
    assert f"{picture}: its name is that of images, and the task looks at clips; leave it" in capsys.readouterr().err
    assert main(["predict", str(trained), "classify", "--task", "motions", "--", str(tmp_path)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"{tmp_path}: 2 files are not taken: 1 .png, 1 .txt"
    assert f"{clip}: the file is empty" in said[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["classify", "--task", "relations", "--", "{tmp}/a.png"],
            "a.png: its name is that of images, and the task reads",
        ),
        (
            ["caption", "--least", "0", "--", "{tmp}/a.png"],
            "predict caption: does not read --least, which is for detect",
        ),
        (["caption", "--", ""], ": cannot be read (No such file or directory); give the path of a file or folder"),
        (
            ["classify", "--labels-file", "{tmp}/absent", "--", "{tmp}/a.png"],
            "--labels-file: {tmp}/absent: no such file",
        ),
    ],
)
def test_a_wrong_word_is_named(
    words: list[str], message: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    assert main(["predict", str(trained), *(word.format(tmp=tmp_path) for word in words)]) == 2
    assert message.format(tmp=tmp_path) in capsys.readouterr().err


def test_classes_of_one_text_keep_their_scores() -> None:
    (answer,) = _scored(["hot dog", "cat", "hot dog"], [[0.5, 0.2, 0.3]])
    assert answer["scores"] == {"hot dog": 0.5, "hot dog (2)": 0.3, "cat": 0.2}
