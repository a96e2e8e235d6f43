"""log.jsonl: one line each, none twice, and none of steps that will be made again."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from uniperceiver.training.log import RunLog, read_log


def open_log(folder: Path, first_step: int = 0, *, tensorboard: bool = False) -> RunLog:
    return RunLog(folder, first_step=first_step, steps=9, tensorboard=tensorboard, quiet=True)


def test_lines_are_written_at_once(tmp_path: Path) -> None:
    log = open_log(tmp_path / "run")
    log.line(3, "train", {"loss": 0.5, "text": "ünï"})
    (line,) = read_log(tmp_path / "run")
    assert {name: line[name] for name in ("step", "event", "loss", "text")} == {
        "step": 3,
        "event": "train",
        "loss": 0.5,
        "text": "ünï",
    }
    assert line["time"] > 1e9
    log.close()


def test_later_lines_are_cut_when_a_run_goes_on(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for step in range(1, 6):
        log.line(step, "train", {"loss": step})
    log.close()
    log = open_log(tmp_path, 3)
    log.line(4, "train", {"loss": -4})
    log.close()
    assert [(line["step"], line["loss"]) for line in read_log(tmp_path)] == [(1, 1), (2, 2), (3, 3), (4, -4)]
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


@pytest.mark.parametrize("half", ['{"step": 2, "ev', '{"step": 2, "samples": {"a": ["b"]}', "{", "\ufffd"])
def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path, half: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"step": 1, "event": "train"}) + "\n" + half)
    assert [line["step"] for line in read_log(tmp_path)] == [1]
    log = open_log(tmp_path, 5)
    log.line(6, "train", {})
    log.close()
    assert [line["step"] for line in read_log(tmp_path)] == [1, 6]


def test_no_log_is_an_empty_one(tmp_path: Path) -> None:
    assert read_log(tmp_path) == []


def test_messages_go_to_the_console(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        log = RunLog(tmp_path, first_step=0, steps=9, tensorboard=False, quiet=quiet)
        log.say("going on")
        log.close()
        assert "going on" in capsys.readouterr().err


def test_square_brackets_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog(tmp_path, first_step=0, steps=9, tensorboard=False)
    log.progress(1, "[/b]", stage="[/b] [red]")
    log.say("birds[/x]: img[copy].jpg", warning=True)
    log.close()
    said = capsys.readouterr().err
    assert "birds[/x]: img[copy].jpg" in said


@pytest.mark.slow
def test_tensorboard_has_the_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    log = open_log(tmp_path, tensorboard=True)
    log.line(1, "train", {"loss": 0.5, "text": "none"})
    log.close()
    files = list((tmp_path / "tensorboard").iterdir())
    assert len(files) == 1
    assert b"train/loss" in files[0].read_bytes()


@pytest.mark.slow
def test_tensorboard_has_pictures_under_their_own_tags(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    log = open_log(tmp_path, tensorboard=True)
    log.show(1, {"interference/a<-b": 0.5}, {"interference": np.full((4, 6, 3), 200, np.uint8)})
    log.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert b"interference/a<-b" in file.read_bytes()
    assert b"\x89PNG" in file.read_bytes()
    assert read_log(tmp_path) == []


@pytest.mark.parametrize(("first_step", "purged"), [(0, None), (5, 6)])
def test_events_of_steps_that_are_made_again_are_purged(
    first_step: int, purged: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = list[tuple[str, dict[str, object]]]()
    writer = SimpleNamespace(close=lambda: None)

    def begun(folder: str, **options: object) -> SimpleNamespace:
        opened.append((folder, options))
        return writer

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=begun))
    open_log(tmp_path, first_step, tensorboard=True).close()
    assert opened == [(str(tmp_path / "tensorboard"), {"purge_step": purged})]


def test_pictures_without_tensorboard_are_nothing(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.show(1, {"a": 0.5}, {"b": np.zeros((1, 1, 3), np.uint8)})
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_without_a_terminal_every_log_line_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RunLog(tmp_path, first_step=0, steps=1000, tensorboard=False)
    log.moved(1)  # somebody has seen something a moment ago
    log.progress(20, "loss 0.5")
    log.progress(20, "1/9", stage="evaluating a/val")
    monkeypatch.setattr(log, "_next", 0.0)
    log.progress(20, "2/9", stage="evaluating a/val")
    log.progress(20, "3/9", stage="evaluating a/val")
    monkeypatch.setattr(log, "_next", 0.0)
    log.moved(21)
    log.moved(22)
    monkeypatch.setattr(log, "_next", 0.0)
    log.progress(22, "")  # an evaluation has ended: nothing to say
    log.progress(22, "4/9", stage="evaluating a/val")
    log.close()
    assert capsys.readouterr().err.splitlines() == [
        "step 20 of 1,000: loss 0.5",
        "step 20 of 1,000: evaluating a/val, 2/9",
        "step 21 of 1,000",
    ]
