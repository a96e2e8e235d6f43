"""What the documents name exists: functions, recipe keys, formats, fields of config.json, sizes."""

import dataclasses
import re
from functools import reduce
from importlib import import_module
from pathlib import Path

import pytest
import torch

from tests.markdown import ROOT, blocks, read, section
from uniperceiver import config, strict
from uniperceiver.commands.recipe import read_recipe
from uniperceiver.commands.tasks import SPLITS
from uniperceiver.data.sources import FORMATS
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.build import build
from uniperceiver.model.sizes import SIZES, architecture
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.task import TEMPERATURES

METHOD, DATA = "docs/method.md", "docs/data.md"
FUNCTIONS = sorted(set(re.findall(r"`([\w/]+)\.py::([\w.]+)`", read(METHOD))))
RECIPES = [block.text for block in blocks(DATA, "yaml")]


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
def test_a_recipe_of_the_data_page_is_read(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_DATA", str(tmp_path))
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    for name, task in read_recipe(path).tasks.items():
        assert task.kind in CATALOGUE
        for source in filter(None, (getattr(task, split) for split in SPLITS)):
            options = dict(source)
            strict.parse(FORMATS[options.pop("format")], options, name)


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


def test_contributing_fits_on_one_screen() -> None:
    assert len(read("CONTRIBUTING.md").splitlines()) <= 50


def test_files_that_the_design_names_exist() -> None:
    for name in re.findall(r"`([\w/]+\.py)`", read("docs/design.md")):
        assert any((ROOT / folder / name).exists() for folder in ("", "uniperceiver", "uniperceiver/model")), name
