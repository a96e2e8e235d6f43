"""The command line: forms, exit codes, JSON, and one line instead of a traceback whatever is wrong."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.small_run import IMAGES, TASKS, log_lines, values_of, write_recipe
from uniperceiver.cli import main
from uniperceiver.cli.parser import parse

COMMANDS = ("demo", "train", "tune", "evaluate", "predict", "convert", "merge", "export", "info", "experts", "study")


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "a picture.png"
    Image.fromarray(np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3)).save(path)
    return str(path)


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report has tests of its own."""
    monkeypatch.setattr("uniperceiver.runs.train.write_report", lambda folder, *more, **options: folder / "report.html")


def test_a_wrong_path_is_told_without_torch(tmp_path: Path) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "config.json").write_text("{}")
    wrong = [
        ["predict", "no", "caption", "a.png"],
        ["predict", "run", "caption", "a.png"],
        ["merge", "no", "--out", "merged"],
        ["info", "no"],
        ["embed", "no", "--files", "list.txt", "--out", "vectors"],
        ["tune", "no", "things", "--out", "tuned"],
        ["evaluate", "no"],
    ]
    code = (
        "import sys\nfrom uniperceiver.cli import main\n"
        f"assert [main(words) for words in {wrong}] == {[2] * len(wrong)}\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert len(lines) == len(wrong)
    assert "a.png: cannot be read (No such file or directory); give the path of a file" in lines[1]
    assert all("no: neither a saved model" in line for line in lines[:1] + lines[2:])


def test_help_needs_no_torch_and_no_second() -> None:
    code = (
        "import sys\nfrom uniperceiver.cli import main\n"
        f"for command in [[], *([each] for each in {COMMANDS})]:\n"
        "    try:\n        main([*command, '--help'])\n    except SystemExit as end:\n        assert not end.code\n"
        "    assert not {'torch', 'numpy', 'pydantic', 'rich'} & set(sys.modules)\n"
    )
    seconds = []
    for _ in range(2):
        start = time.monotonic()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        seconds.append(time.monotonic() - start)
        assert done.returncode == 0, done.stderr
    assert all(f"uniperceiver {command}" in done.stdout for command in COMMANDS)
    assert min(seconds) < 1.0


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["train"], ["train", "x.yaml"], ["info", "--oops"], ["predict", "run", "sing", "a"]]
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_an_option_that_is_given_twice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["evaluate", "run", "--task", "a", "--task", "b"])
    assert end.value.code == 2
    assert "--task is given twice; give it once" in capsys.readouterr().err
    many = parse(["predict", "run", "classify", "--labels", "a", "b", "--labels", "c", "--", "x"])
    assert many.keywords["labels"] == ["a", "b", "c"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("word", ["a=1", "--a=1", "x"])
def test_words_that_nobody_reads_are_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["evaluate", "run", word])
    assert end.value.code == 2
    assert f"unknown argument '{word}'; see uniperceiver evaluate --help" in capsys.readouterr().err


def said(capsys: pytest.CaptureFixture[str], arguments: Sequence[str]) -> str:
    """The one line about a mistake."""
    assert main(arguments) == 2
    streams = capsys.readouterr()
    (line,) = [each for each in streams.err.splitlines() if each.startswith("uniperceiver: ")]
    assert streams.err.splitlines()[-1] == line
    assert "Traceback" not in streams.err
    return line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "{tmp}/absent.yaml", "--out", "{tmp}/run"], "absent.yaml: no such file; give the path of a recipe"),
        (["train", "{recipe}", "stepz=3", "--out", "{tmp}/run"], "unknown key 'stepz'; did you mean 'steps'?"),
        (["train", "{recipe}", "--out", "{tmp}/run", "steps=many"], "key 'steps' has a wrong value 'many'"),
        (["train", "{recipe}", "--out", "{recipe}"], "r.yaml: cannot be written (File exists); use another"),
        (["train", "{recipe}", "--out", "{recipe}/x"], "r.yaml/x: cannot be written (Not a directory)"),
        (["train", "{recipe}", "--out", "{run}", "seed=4"], "holds a run with "),
        (["train", "{recipe}", "device=abacus", "--out", "{tmp}/run"], "device 'abacus': "),
        (["demo", "--out", "{tmp}/run", "seeds=1"], "unknown key 'seeds'; did you mean 'seed'?"),
        (["demo", "--out", "{tmp}/run", "tasks.shapes.train.item=1"], "did you mean 'items'?"),
        (["evaluate", "{tmp}"], "neither a saved model (config.json) nor a run with one"),
        (["evaluate", "{run}/model"], "not a run (it has no recipe.yaml); give the folder that train wrote, or --data"),
        (["evaluate", "{run}", "--task", "colour"], "--task: no task 'colour'; did you mean 'colours'?"),
        (["evaluate", "{run}", "--task", "words", "--split", "test"], "none of the splits test has data"),
        (["evaluate", "{run}", "--json", "{tmp}/absent/x.json"], "--json: there is no folder"),
        (["evaluate", "{run}", "--data", "{tmp}/absent.yaml"], "absent.yaml: no such file"),
        (["evaluate", "{run}", "--data", "{odd}"], "tasks.colours.size: 36 is not a multiple of the patch side 8"),
        (["predict", "{tmp}/no", "caption", "a.png"], "neither a saved model"),
        (["predict", "{run}", "caption", "{tmp}/absent.png"], "absent.png: cannot be read (No such file or directory)"),
        (["predict", "{run}", "caption", "{recipe}"], "r.yaml: "),
        (["predict", "{run}", "caption", "--beam", "0", "{picture}"], "beam must lie between 1 and"),
        (["predict", "{run}", "caption", "--device", "abacus", "{picture}"], "device 'abacus': "),
        (
            ["predict", "{run}", "classify", "{picture}"],
            "give --labels TEXT ..., or --task one of colours, motions, rel",
        ),
        (["predict", "{run}", "classify", "--task", "colour", "{picture}"], "unknown task 'colour'; did you mean"),
        (["predict", "{run}", "classify", "--task", "words", "{picture}"], "cannot be asked of task 'words'"),
        (["predict", "{run}", "rank", "{picture}"], "give the texts to compare with: --texts"),
        (
            ["predict", "{run}", "caption", "--labels", "a", "b", "--", "{picture}"],
            "does not read --labels, which is for",
        ),
        (
            ["predict", "{run}", "classify", "--labels", "a b", "c", "--", "IMG_0001.HEIC"],
            "IMG_0001.HEIC: cannot be read (No such file or directory); give the path of a file or folder, or --text",
        ),
        (
            ["predict", "{run}", "classify", "--task", "relations", "--", "a red square"],
            "a red square: cannot be read (No such file or directory); give the path of a file or folder, or --text",
        ),
        (
            ["predict", "{run}", "classify", "--labels", "a cat,a dog", "--", "{picture}"],
            "'a cat,a dog' alone has probability 1 whatever is seen; give two or more, such as 'a cat' 'a dog'",
        ),
        (
            ["predict", "{run}", "classify", "--task", "colours", "--text", "a"],
            "the task looks at images, not at texts",
        ),
        (
            ["predict", "{run}", "caption", "--out", "{recipe}", "{picture}"],
            "expected a file that ends in .csv, .jsonl or",
        ),
        (["info", "{tmp}"], "neither a saved model"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    message: str,
    trained: Path,
    tmp_path: Path,
    picture: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places: dict[str, Any] = {
        "tmp": tmp_path,
        "run": trained,
        "picture": picture,
        "recipe": write_recipe(tmp_path / "r.yaml", values_of()),
        "odd": write_recipe(tmp_path / "odd.yaml", values_of(tasks__colours__size=36)),
    }
    before = sorted(path.stat().st_mtime_ns for path in trained.rglob("*"))
    assert message in said(capsys, [each.format(**places) for each in arguments])
    assert sorted(path.stat().st_mtime_ns for path in trained.rglob("*")) == before
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_a_truncated_model_is_one_line(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (trained / "model").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[: 900 if path.suffix == ".safetensors" else None])
    assert "model.safetensors: missing, truncated or damaged" in said(capsys, ["info", str(tmp_path)])


def test_classify(trained: Path, picture: str, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["predict", str(trained), "classify", "--labels", "red", "a blue thing", "green", "--", picture, picture]
    assert main(call) == 0
    first, *scores = capsys.readouterr().out.splitlines()[:4]
    assert first.startswith(f"{picture}: ")
    assert sorted(line.split("  ")[-1].strip() for line in scores) == ["a blue thing", "green", "red"]
    assert main([*call[:3], "--json", *call[3:]]) == 0
    one, two = json.loads(capsys.readouterr().out)
    assert one == two
    assert one["answer"] == max(one["scores"], key=one["scores"].get)
    assert sum(one["scores"].values()) == pytest.approx(1, abs=1e-5)
    assert main(["predict", str(trained), "classify", "--task", "colours", "--json", picture]) == 0
    assert len(json.loads(capsys.readouterr().out)[0]["scores"]) == 8
    assert (
        main(["predict", str(trained), "classify", "--labels", "a", "b", "--json", "--text", "--", "a red square"]) == 0
    )
    assert json.loads(capsys.readouterr().out)[0]["file"] == "a red square"


def test_caption_and_rank(trained: Path, picture: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(trained / "model"), "caption", picture, picture, "--json"]) == 0
    captions = json.loads(capsys.readouterr().out)
    assert [set(each) for each in captions] == [{"file", "answer"}] * 2
    assert main(["predict", str(trained), "rank", "--texts", "a red square", "a dog", "--", picture]) == 0
    assert capsys.readouterr().out.startswith(f"{picture}: a ")
    assert main(["predict", str(trained), "rank", "--json", "--texts", "a", "b", "--", picture]) == 0
    assert set(json.loads(capsys.readouterr().out)[0]["scores"]) == {"a", "b"}


def test_info(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(trained), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert set(facts["tasks"]) == set(TASKS)
    assert facts["architecture"]["width"] == 16
    assert main(["info", "--json"]) == 0
    assert "image_classification" in json.loads(capsys.readouterr().out)["task kinds"]
    assert main(["info"]) == 0
    assert "webdataset" in capsys.readouterr().out


def test_evaluate(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(trained), "--json", str(tmp_path / "all.json")]) == 0
    assert "accuracy@1" in capsys.readouterr().out
    figures = json.loads((tmp_path / "all.json").read_text())
    assert set(figures) == {"tasks", "classes"}
    assert set(figures["tasks"]) == set(TASKS)
    assert set(figures["tasks"]["colours"]) == {"val", "test"}
    assert all(isinstance(value, int | float) for value in figures["tasks"]["colours"]["val"].values())
    one = ["evaluate", str(trained), "--task", "colours", "--split", "test", "--json", str(tmp_path / "one.json")]
    assert main(one) == 0
    expected = {part: {"colours": {"test": figures[part]["colours"]["test"]}} for part in ("tasks", "classes")}
    assert json.loads((tmp_path / "one.json").read_text()) == expected


def test_evaluate_on_other_data(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = {**IMAGES, "label": "colour", "split": "test"}
    values = {"tasks": {"colours": {**TASKS["colours"], "train": None, "val": None, "test": source}}}
    values["tasks"]["mine"] = {**values["tasks"]["colours"], "test": {**IMAGES, "label": "shape"}}
    recipe = write_recipe(tmp_path / "r.yaml", values)
    out = tmp_path / "x.json"
    assert main(["evaluate", str(trained / "model"), "--data", str(recipe), "--split", "test", "--json", str(out)]) == 0
    other = json.loads(out.read_text())["tasks"]
    assert main(["evaluate", str(trained), "--task", "colours", "--split", "test", "--json", str(out)]) == 0
    assert other["colours"] == json.loads(out.read_text())["tasks"]["colours"]
    assert other["mine"]["test"]["n"] == 12
    capsys.readouterr()


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "{}"],
        ["info", "{}"],
        ["train", "{}", "--out", "run"],
        ["train", "recipe.yaml", "--out", "{}"],
        ["train", "recipe.yaml", "tasks.colours.train={{format: folder, path: {}}}", "--out", "run"],
        ["train", "recipe.yaml", "model.start={}", "--out", "run"],
    ],
)
def test_a_text_where_a_path_belongs_is_one_line(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path / "recipe.yaml", values_of(("colours",)))
    assert main([word.format("a red circle " * 30) for word in words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("uniperceiver: ")
    assert len(line) < 400
    assert ": File name too long; give a shorter one; is it a text, where the path of a file or folder belongs?" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [["evaluate", "--json"], ["interference", "--json"], ["evaluate", "--predictions"]])
def test_results_do_not_replace_other_files(
    words: list[str], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, option = words
    path = tmp_path / ("data.csv" if option == "--predictions" else "recipe.yaml")
    path.write_text("steps: 4\n")
    assert main([command, str(trained), option, str(path)]) == 2
    assert f"{path} holds something else, which would be lost; name another file" in capsys.readouterr().err
    assert path.read_text() == "steps: 4\n"


@pytest.mark.usefixtures("no_report")
def test_train_with_overrides_before_and_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, out = write_recipe(tmp_path / "r.yaml", values_of()), tmp_path / "run"
    assert main(["train", str(recipe), "steps=2", "--out", str(out), "seed=3", "--json", "optimiser.lr=3e-4"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert set(results) == {"run", "report", "tasks", "classes"}
    assert set(results["tasks"]["colours"]) == {"train", "val"}
    assert json.loads((out / "results.json").read_text()) == {part: results[part] for part in ("tasks", "classes")}
    saved = yaml.safe_load((out / "recipe.yaml").read_text())
    assert (saved["steps"], saved["seed"], saved["optimiser"]["lr"]) == (2, 3, 3e-4)
    # The same command goes on: here, nothing is left to train.
    assert main(["train", "--out", str(out), str(recipe), "steps=3", "seed=3", "optimiser.lr=3e-4"]) == 0
    assert [line["step"] for line in log_lines(out, "train")] == [1, 2, 3]
    assert f"model:  {out / 'model'}" in capsys.readouterr().out


def test_ctrl_c_is_no_traceback(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("uniperceiver.serving.info.model_info", interrupted)
    assert main(["info", str(trained)]) == 130


def test_a_closed_pipe_is_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "uniperceiver", "info", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert "Traceback" not in process.stderr.read()
    assert process.wait(60) == 1
