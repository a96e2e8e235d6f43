"""What the documents name exists: functions, recipe keys, formats, fields of config.json, sizes."""

import dataclasses
import re
import shutil
from functools import reduce
from importlib import import_module
from pathlib import Path

import pytest
import torch

from examples import own_data
from tests.markdown import ROOT, blocks, commands, read, section
from uniperceiver import cli, config
from uniperceiver.cli.parser import parse
from uniperceiver.config import read_recipe
from uniperceiver.data.formats import FORMATS, parse_source
from uniperceiver.data.tasks import SPLITS
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.build import build
from uniperceiver.model.sizes import SIZES
from uniperceiver.moe.conditions import paper_bits
from uniperceiver.runs.architecture import architecture
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.task import TEMPERATURES

OWN_CODE = "docs/own_code.md"
METHOD, DATA, TUNING, INTERFERENCE = "docs/method.md", "docs/data.md", "docs/tuning.md", "docs/interference.md"
FUNCTIONS = sorted(set(re.findall(r"`([\w/]+)\.py::([\w.]+)`", read(METHOD))))
RECIPES = [block.text for page in (DATA, TUNING, OWN_CODE) for block in blocks(page, "yaml")]


@pytest.mark.parametrize(("module", "name"), FUNCTIONS)
def test_a_function_that_the_method_names_exists(module: str, name: str) -> None:
    found = import_module(f"uniperceiver.{module.replace('/', '.')}")
    assert reduce(getattr, name.split("."), found) is not None


def test_the_method_names_the_formula_and_the_loss() -> None:
    assert {("tasks/likelihood", "logits"), ("tasks/loss", "cross_entropy")} <= set(FUNCTIONS)


@pytest.mark.parametrize("size", SIZES)
def test_the_table_of_sizes_is_right(size: str) -> None:
    (row,) = re.findall(rf"^\| {size} \|(.*)\|$", read(METHOD), re.MULTILINE)
    *shape, without, with_2000, with_clip = [cell.strip() for cell in row.split("|")]
    arch = architecture(config.ModelConfig(size=size), config.MoEConfig(), tasks=1, vocabulary=2000, end=0, answer=1)  # type: ignore[arg-type]
    assert shape == [str(getattr(arch, name)) for name in ("width", "layers", "heads", "ffn", "patch")]
    with torch.device("meta"):
        model = build(arch, TEMPERATURES)
    rest = sum(parameter.numel() for parameter in model.parameters()) - 2000 * arch.width
    counts = (rest, rest + 2000 * arch.width, rest + 49411 * arch.width)
    assert [without, with_2000, with_clip] == [f"{count / 1e6:.2f} M" for count in counts]


def test_the_differences_are_fields_of_the_architecture() -> None:
    named = re.findall(
        r"^\| `(\w+)` \|", section(METHOD, "## Where we differ from the original, on purpose"), re.MULTILINE
    )
    fields = {field.name for field in dataclasses.fields(Architecture)}  # type: ignore[arg-type]
    assert len(named) > 5
    assert set(named) <= fields


@pytest.mark.parametrize("text", RECIPES, ids=range(len(RECIPES)))
def test_a_recipe_of_a_page_is_read(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_DATA", str(tmp_path))
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    for name, task in read_recipe(path).tasks.items():
        assert task.kind in CATALOGUE
        for source in filter(None, (getattr(task, split) for split in SPLITS)):
            parse_source(source, name)


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_has_its_section_with_all_keys(name: str) -> None:
    text = section(DATA, f"### {name}")
    assert f"format: {name}" in text
    missing = [field.name for field in dataclasses.fields(FORMATS[name]) if f"`{field.name}`" not in text]
    assert not missing


def test_all_keys_of_a_task_are_explained() -> None:
    for part, heading in ((config.TaskConfig, "## Tasks"), (config.AugmentConfig, "## Augmentation")):
        text = section(DATA, heading)
        assert not [field.name for field in dataclasses.fields(part) if f"`{field.name}`" not in text]


def test_all_keys_of_tuning_are_explained() -> None:
    keys = section(TUNING, "## Keys")
    assert not [field.name for field in dataclasses.fields(config.TuneConfig) if f"| `{field.name}` |" not in keys]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "words", [words for block in blocks(TUNING, "bash") for words in commands(block)], ids=" ".join
)
def test_a_command_of_the_tuning_page_exists(words: list[str]) -> None:
    assert words[0] == "uniperceiver"
    assert parse(words[1:])


def test_the_tuning_page_names_every_recipe_of_the_original() -> None:
    named = re.findall(r"`(\w+\.yaml)`", section(TUNING, "## The original's recipes"))
    assert sorted(named) == sorted(path.name for path in (ROOT / "examples/original").glob("*.yaml"))


@pytest.mark.slow
def test_the_tuning_page_can_be_followed(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands about a folder, and its program, on less data."""
    monkeypatch.chdir(tmp_path)
    own_data.main(Path("my_data"), train=40, val=40)
    for name in ("mine", "demo"):
        shutil.copytree(trained, f"runs/{name}")
    shutil.copytree("my_data/train", "my_photos")
    folder, questions, recipe, photographs = blocks(TUNING, "bash")
    small = ["steps=2", "evaluation.every=0", "evaluation.train_limit=8", "data.workers=0", "log.tensorboard=false"]
    for words in (*commands(folder), *commands(questions)):
        assert cli.main([*words[1:], *(small if words[1] == "tune" else [])]) == 0, " ".join(words)
    Path("my_recipe.yaml").write_text(blocks(TUNING, "yaml")[0].text)
    shutil.copy("my_data/captions_train.json", "captions.json")
    shutil.copytree("my_data/train", "pictures")
    (words,) = commands(recipe)
    assert cli.main([*words[1:], *small, "tune.fraction=1", "evaluation.max_words=4"]) == 0
    (words,) = commands(photographs)
    assert cli.main([*words[1:], *small]) == 0
    (program,) = blocks(TUNING, "python")
    exec(program.text.replace('"steps": "300"', '"steps": "2"'), {})
    assert Path("small/tuned.safetensors").is_file()
    assert Path("alone/model.safetensors").is_file()


def test_contributing_fits_on_one_screen() -> None:
    assert len(read("CONTRIBUTING.md").splitlines()) <= 50


def test_files_that_the_design_names_exist() -> None:
    for name in re.findall(r"`([\w/]+\.py)`", read("docs/design.md")):
        assert any((ROOT / folder / name).exists() for folder in ("", "uniperceiver", "uniperceiver/model")), name


def test_the_attribute_rows_that_six_tasks_share() -> None:
    written: dict[str, set[str]] = {}
    for rows, who in re.findall(r"^\| ((?:[01]{4} [01]{4}(?:, )?)+) \| (.*) \|$", read(INTERFERENCE), re.MULTILINE):
        written |= {row: set(re.findall(r"`(\w+)`", who)) for row in rows.split(", ")}
    found: dict[str, set[str]] = {}
    for name, task in read_recipe(ROOT / "examples/routing/six_tasks.yaml").tasks.items():
        for segment in CATALOGUE[task.kind].segments():
            bits = "".join(map(str, paper_bits(segment)))
            found.setdefault(f"{bits[:4]} {bits[4:]}", set()).add(name)
    assert written == found
