"""Python files that a recipe names: used by every command, saved with the model, never executed without trust."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.markdown import ROOT, blocks, read
from tests.small_run import log_lines, small_recipe, train, values_of, write_recipe
from tests.studied import without_training
from uniperceiver import load
from uniperceiver.cli import main
from uniperceiver.config import parse_recipe, read_recipe
from uniperceiver.data.formats import FORMATS
from uniperceiver.errors import UserError
from uniperceiver.moe.conditions import CONDITIONS
from uniperceiver.optimisation.balance.methods import METHODS
from uniperceiver.own_code import execute, joined, read_code
from uniperceiver.runs.folder import saved_recipe
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.training.log import TRACKERS

CODE = """
from dataclasses import dataclass, replace
from uniperceiver.data.formats import FORMATS
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.moe.conditions import CONDITIONS, OfSegment
from uniperceiver.optimisation.balance.methods import METHODS
from uniperceiver.optimisation.balance.method import Fixed
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.training.log import TRACKERS

def side(segment, settings):
    return (float(segment.facts.side == "input"), float(segment.facts.side == "candidate"))

@dataclass
class Told:
    path: object
    def line(self, record):
        with self.path.open("a") as file:
            file.write(record["event"] + "\\\\n")
    def close(self):
        pass

class Mine(Fixed):
    pass

CONDITIONS["side"] = OfSegment(code=side)
METHODS["mine"] = Mine
FORMATS["pictures_of_mine"] = ScenesSource
CATALOGUE["naming"] = replace(CATALOGUE["image_classification"], name="naming")
TRACKERS["told"] = lambda folder: Told(folder / "told.txt")
""".replace("\\\\n", "\\n")
TABLES: dict[str, dict[str, Any]] = {
    "side": CONDITIONS,
    "mine": METHODS,
    "pictures_of_mine": FORMATS,
    "naming": CATALOGUE,
}
QUICK = {"steps": 2, "evaluation__train_limit": 4}


def forget() -> None:
    """As in a process that has not executed any of it."""
    for name in [name for name in sys.modules if name.startswith("uniperceiver_own_")]:
        del sys.modules[name]
    for key, table in TABLES.items():
        table.pop(key, None)
    TRACKERS.pop("told", None)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    forget()
    yield
    forget()


def write(folder: Path, text: str = CODE, **changes: Any) -> Path:
    """A recipe that needs the file beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.py").write_text(text)
    source = {"format": "pictures_of_mine", "items": 12, "pixels": 32, "objects": 1, "label": "colour"}
    task = {"kind": "naming", "train": source, "val": {**source, "split": "val"}, "batch": 3, "size": 32}
    values = {
        "import": ["mine.py"],
        **values_of((), **QUICK, tasks__colours=task, tasks__more=task, moe={"condition": "side", "experts": 2}),
    }
    values["balance"], values["log"] = {"method": "mine"}, {**values["log"], "trackers": ["told"]}
    return write_recipe(folder / "r.yaml", {**values, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained with code of its own, beside its recipe; nobody may change it."""
    place = tmp_path_factory.mktemp("own")
    assert main(["train", str(write(place)), "--out", str(place / "run")]) == 0
    return place / "run"


def test_it_is_saved_with_run_and_model_and_shown(run: Path) -> None:
    assert (run / "model" / "mine.py").read_text() == CODE
    assert "import:\n- mine.py\n" in (run / "recipe.yaml").read_text()
    assert saved_recipe(run)[0].imports == ["mine.py"]
    assert "- needs code of its own, here beside the weights: mine.py; read it" in (run / "model/README.md").read_text()
    page = (run / "report.html").read_text()
    assert "code of its own" in page
    assert "mine.py" in page
    assert (run / "told.txt").read_text().split().count("train") == 2


def commands(run: Path, place: Path) -> list[list[str]]:
    Image.new("RGB", (32, 32)).save(place / "p.png")
    values = values_of(("colours",), steps=1, evaluation__train_limit=2)
    plain = write_recipe(place / "plain.yaml", {key: value for key, value in values.items() if key != "model"})
    return [
        ["evaluate", str(run), "--split", "val"],
        ["report", str(run)],
        ["experts", str(run), "--limit", "4"],
        ["interference", str(run), "--batches", "2", "--batch", "2"],
        ["merge", str(run), "--out", str(place / "merged")],
        ["info", str(run)],
        ["tune", str(run), str(plain), "--out", str(place / "tuned"), "--method", "full"],
    ]


def test_every_command_needs_trust(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "copy"
    shutil.copytree(run.parent, place)
    asks = ["predict", str(place / "run"), "classify", "--task", "colours"]
    words = [*commands(place / "run", tmp_path), asks]
    behind = {"predict": ["--", str(tmp_path / "p.png")]}
    for command in words:
        capsys.readouterr()
        assert main([*command, *behind.get(command[0], [])]) == 2, command
        assert (
            "model: needs code of its own, mine.py, which would be executed on this machine" in capsys.readouterr().err
        )
        assert not set(TABLES) & set(CONDITIONS)
    for command in words:
        assert main([*command, "--trust", *behind.get(command[0], [])]) == 0, command
        forget()
    for made in ("merged", "tuned/model"):
        assert (tmp_path / made / "mine.py").read_text() == CODE


def test_from_python_and_on(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model: needs code of its own, mine.py.*trust=True"):
        load(run)
    load(run, trust=True).save_pretrained(tmp_path / "mine")
    load(tmp_path / "mine").save_pretrained(tmp_path / "mine")  # its own code is not foreign to it
    forget()
    (tmp_path / "mine" / "mine.py").write_text("raise SystemExit('never')")
    with pytest.raises(UserError, match=r"mine/mine.py: is not the file that was saved with the model; copy it again"):
        load(tmp_path / "mine", trust=True)


def test_a_run_goes_on_and_says_where_its_code_has_changed(tmp_path: Path) -> None:
    path = write(tmp_path)
    train(tmp_path / "run", read_recipe(path), base=tmp_path)
    forget()
    train(tmp_path / "run", read_recipe(path, {"steps": "3"}), base=tmp_path)
    write(tmp_path, CODE + "# another one\n")
    train(tmp_path / "run", read_recipe(path, {"steps": "4"}), base=tmp_path)
    notes = [line["text"] for line in log_lines(tmp_path / "run", "note")]
    changed = "mine.py is not as it was when the run was saved: what it computes may be something else from here on"
    assert notes[:2] == ["going on after step 2", changed]
    assert notes[2].startswith("going on after step 3")
    assert (tmp_path / "run" / "model" / "mine.py").read_text().endswith("# another one\n")


def test_data_commands_and_studies_know_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path)
    assert main(["data", "check", str(path), "--workers", "0"]) == 0
    forget()
    assert main(["data", "prepare", str(path), "--out", str(tmp_path / "shards"), "--workers", "0"]) == 0
    assert read_recipe(tmp_path / "shards" / "recipe.yaml").imports == [str((tmp_path / "mine.py").resolve())]
    forget()
    without_training(monkeypatch)
    study = {"recipe": "r.yaml", "arms": {"mine": {}, "shared": {"moe.condition": "shared"}}, "seeds": 1}
    assert main(["study", str(write_recipe(tmp_path / "s.yaml", study)), "--out", str(tmp_path / "o")]) == 0
    forget()
    study["set"] = {"import": []}
    assert main(["study", str(write_recipe(tmp_path / "s.yaml", study)), "--out", str(tmp_path / "o2")]) == 2
    assert "unknown kind 'naming'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "text", "message"),
    [
        (["absent.py"], "", r"^import: .*absent\.py: cannot be read \(No such file or directory\); paths start at the"),
        (["r.yaml"], "", r"^import: .*r\.yaml: is no Python file; name one that ends in \.py"),
        (["mine.py"], "x = 1\ny = x.z\n", r"^import: .*mine\.py:2: AttributeError: .*'z'; mend the file"),
        (["mine.py"], "def f(:\n", r"^import: .*mine\.py:1: SyntaxError: .*; mend the file"),
        (["mine.py", "other/mine.py"], "", r"^import: two files are called mine\.py; rename one"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, files: list[str], text: str, message: str) -> None:
    write(tmp_path / "other", "")
    path = write(tmp_path, text, **{"import": files})
    with pytest.raises(UserError, match=message) as caught:
        train(tmp_path / "run", read_recipe(path), base=tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_file_is_executed_once_and_two_of_one_name_are_refused(tmp_path: Path) -> None:
    for name, text in (("a", "import sys\nsys.argv.append('once')\n"), ("b", "pass\n")):
        write(tmp_path / name, text)
    (first,), (second,) = (read_code(["mine.py"], tmp_path / name) for name in "ab")
    before = list(sys.argv)
    execute([first, first])
    execute([first])
    assert sys.argv == [*before, "once"]
    sys.argv.pop()
    assert joined([first], [first]) == (first,)
    with pytest.raises(UserError, match="have one name and other texts, and both are needed; rename the first"):
        joined([first], [second])


def test_the_key_is_called_import_and_imports_in_python() -> None:
    assert parse_recipe({**values_of(), "import": ["a.py"]}, {}, "r").imports == ["a.py"]
    assert small_recipe(imports=["a.py"]).imports == ["a.py"]
    with pytest.raises(UserError, match="unknown key 'imprt'; did you mean 'import'"):
        parse_recipe({**values_of(), "imprt": ["a.py"]}, {}, "r")


def test_a_model_without_code_of_its_own_is_as_before(trained: Path) -> None:
    assert "code" not in json.loads((trained / "model" / "config.json").read_text())
    assert "code of its own" not in (trained / "model" / "README.md").read_text()


def test_the_page_and_the_example_are_right(tmp_path: Path) -> None:
    condition, _, losses = (block.text for block in blocks("docs/own_code.md", "python"))
    for number, text in enumerate((condition, (ROOT / "examples" / "new_condition.py").read_text())):
        write(tmp_path / str(number), text)
        forget()
        execute(read_code(["mine.py"], tmp_path / str(number)))
        assert "side" in CONDITIONS
    for table, name in re.findall(r"`(uniperceiver[.\w]+)\.([A-Z]+)`", read("docs/own_code.md")):
        assert isinstance(getattr(import_module(table), name), dict)
    program: dict[str, Any] = {}
    exec(losses.replace('uniperceiver.train("recipe.yaml", "runs/mine", trackers=[Losses()])', ""), program)
    run = prepare_run(small_recipe(steps=1), tmp_path, tmp_path / "run", quiet=True, trackers=[program["Losses"]()])
    run.train()


def test_a_tracker_that_fails_stops_no_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Failing:
        lines = 0

        def line(self, record: Any) -> None:
            self.lines += 1
            raise OSError("no network")

        def close(self) -> None:
            raise AssertionError("not told any more")

    failing = Failing()
    prepare_run(small_recipe(steps=3), tmp_path, tmp_path / "run", quiet=True, trackers=[failing]).train()
    assert failing.lines == 1
    assert "tracker Failing is left out from here on: OSError: no network" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"log.trackers: no tracker 'told'; choose one of \(none\)"):
        prepare_run(small_recipe(log__trackers=["told"]), tmp_path, tmp_path / "other")
