"""docs/regions-study.md: its commands exist, and the recipes of regions are read, with their data."""

from pathlib import Path

import pytest

from tests.markdown import ROOT, blocks, commands
from uniperceiver.cli.parser import parse
from uniperceiver.config import read_recipe
from uniperceiver.data.tasks import open_tasks
from uniperceiver.runs.architecture import moe_of
from uniperceiver.runs.checks.recipe import check_recipe
from uniperceiver.studies.plan import read_plan

WORDS = [words for block in blocks("docs/regions-study.md", "bash") for words in commands(block)]


@pytest.mark.parametrize("words", [words for words in WORDS if words[0] == "uniperceiver"], ids=" ".join)
def test_a_command_of_the_page_exists(words: list[str]) -> None:
    options = parse(words[1:]).keywords
    recipe = options.get("study") or options.get("recipe")
    assert recipe is None or (ROOT / recipe).is_file()


@pytest.mark.parametrize("name", ["shapes", "regions", "regions/four_tasks"])
def test_a_recipe_of_regions_is_one(name: str) -> None:
    path = ROOT / f"examples/{name}.yaml"
    recipe = read_recipe(path)
    tasks = open_tasks(recipe, path.parent)
    check_recipe(recipe, tasks, moe_of(recipe.model, recipe.moe, len(tasks)))
    kinds = {data.task.name: data.task.answer.reads_objects for data in tasks}
    assert any(kinds.values())


def test_the_study_of_regions_is_one(tmp_path: Path) -> None:
    plan = read_plan(ROOT / "examples/regions/study.yaml", tmp_path)
    draws = {cell.arm: cell.recipe.sampling.tasks_per_step for cell in plan.cells}
    tasks = {cell.arm: len(cell.recipe.tasks) for cell in plan.cells}
    assert draws == tasks  # so each task has as many batches in every arm, on average
    assert {cell.seed for cell in plan.cells} == {0, 1, 2}


def test_the_study_of_looks_is_one(tmp_path: Path) -> None:
    plan = read_plan(ROOT / "examples/regions/looks_study.yaml", tmp_path)
    assert {(cell.recipe.model.regions.attention, cell.recipe.model.regions.denoise) for cell in plan.cells} == {
        ("deformable", 0),
        ("dense", 0),
        ("dense_rpb", 0),
        ("deformable", 10),
    }
    assert {cell.recipe.tasks["shapes"].class_term for cell in plan.cells} == {"background"}
