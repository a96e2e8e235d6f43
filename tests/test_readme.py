"""Every command, snippet and recipe of the README is one that works."""

import re
from pathlib import Path

import pytest

from examples import own_data
from tests.markdown import ROOT, blocks, commands, read, section
from tests.server.started import started
from uniperceiver import cli
from uniperceiver.cli.parser import parse
from uniperceiver.config import read_recipe
from uniperceiver.data.formats import FORMATS
from uniperceiver.tasks.catalogue import CATALOGUE

README = "README.md"
COMMANDS = [words for block in blocks(README, "bash") for words in commands(block)]
SMALL = ["steps=4", "model.width=32", "model.layers=1", "evaluation.every=0", "evaluation.train_limit=8",
         "evaluation.max_words=4", "data.workers=0", "log.tensorboard=false"]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_is_one_that_exists(words: list[str]) -> None:
    match words[0]:
        case "uniperceiver":
            parse(words[1:])
        case "make":
            assert re.search(rf"^{words[1]}:", read("Makefile"), re.MULTILINE)
        case "python":
            assert (ROOT / words[1]).is_file()
        case "pip":
            assert words[1] == "install"
        case _:
            assert words == ["source", ".venv/bin/activate"]


def test_the_two_commands_stand_on_the_first_screen() -> None:
    first = "\n".join(read(README).splitlines()[:30])
    assert "\nmake demo " in first
    assert "\nmake test " in first


def test_the_python_example_has_five_lines() -> None:
    assert len(blocks(README, "python")[0].text.splitlines()) == 5


def test_the_recipe_is_the_one_that_the_example_writes() -> None:
    assert [block.text for block in blocks(README, "yaml")] == [own_data.RECIPE]


def test_the_tables_are_complete() -> None:
    assert _first_column("## Tasks") == list(CATALOGUE)
    assert set(_first_column("## Data formats")) == set(FORMATS)


def test_links_lead_somewhere() -> None:
    links = set(re.findall(r"\]\((?!http)([^)#]+)", read(README)))
    assert {link for link in links if not (ROOT / link).exists()} == set()


def test_the_recipe_is_read(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(own_data.RECIPE, encoding="utf-8")
    assert set(read_recipe(path).tasks) == {"things", "captions"}


@pytest.mark.slow
def test_a_newcomer_can_follow_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All commands and snippets in their order, on less data and with a smaller model."""
    monkeypatch.chdir(tmp_path)
    own_data.main(Path("."), train=40, val=40)  # for photo.png
    known: dict[str, object] = {}
    demo_made = False
    for block in blocks(README, "bash", "python"):
        if block.language == "python":
            small = dict(word.split("=", 1) for word in SMALL)
            exec(block.text.replace('{"steps": "500"}', repr(small)), known)
        else:
            for words in commands(block):
                demo = words[:2] in (["make", "demo"], ["uniperceiver", "demo"])
                if not (demo and demo_made):  # which stands there three times
                    _run(words)
                demo_made |= demo
    assert (tmp_path / "runs/mine/report.html").is_file()
    assert (tmp_path / "results.json").is_file()
    assert (tmp_path / "my_model/model.safetensors").is_file()
    merged, routed = (tmp_path / name / "model.safetensors" for name in ("my_merged", "runs/experts/model"))
    assert merged.stat().st_size < 0.5 * routed.stat().st_size


def _run(words: list[str]) -> None:
    """A command line as the README has it, made small."""
    if words[0] == "python":
        own_data.main(Path(words[2]), train=40, val=40)
    elif words[0] == "uniperceiver" or words == ["make", "demo"]:
        given = [str(ROOT / word) if word.startswith("examples/") else word for word in words[1:]]
        if given[0] == "serve":
            with started(Path(given[1])) as served, served.client() as client:
                assert client.get("/ready").status_code == 200
            return
        if given[0] in ("demo", "train"):
            keys = tuple(f"{word.partition('=')[0]}=" for word in SMALL)
            given = [*(word for word in given if not word.startswith(keys)), *SMALL]
        if given[0] == "tune":
            given += [word for word in SMALL if not word.startswith("model.")]
        if given[0] == "demo":
            given += _few_scenes(ROOT / "uniperceiver/recipes/demo.yaml")
        if given[0] == "train" and given[1].startswith(str(ROOT)):
            given += _few_scenes(Path(given[1]))
        assert cli.main(given) == 0, " ".join(words)


def _few_scenes(recipe: Path) -> list[str]:
    tasks = read_recipe(recipe).tasks
    return [f"tasks.{name}.{split}.items=12" for name in tasks for split in ("train", "val")]


def _first_column(heading: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", section(README, heading), re.MULTILINE)
