"""A study's file becomes cells, and is refused before anything is trained."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.config.test_recipe import typos
from tests.markdown import ROOT
from tests.studied import ARMS, write_study
from uniperceiver.errors import UserError
from uniperceiver.studies.plan import StudyConfig, _kept_tasks, read_plan

STUDIES = sorted(path for path in (ROOT / "examples").rglob("*.yaml") if path.stem.endswith(("study", "rates")))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_studies_among_the_examples_can_begin(path: Path, tmp_path: Path) -> None:
    plan = read_plan(path, tmp_path)
    assert len(plan.cells) == len(plan.arms) * len({cell.seed for cell in plan.cells}) > 1


def test_every_arm_is_trained_with_every_seed(tmp_path: Path) -> None:
    plan = read_plan(write_study(tmp_path, threads=2, set={"optimiser.lr": 3e-3}), tmp_path / "out")
    assert [(cell.arm, cell.seed) for cell in plan.cells] == [
        (arm, seed) for seed in (0, 1) for arm in ("shared", "own", "mid")
    ]
    last = plan.cells[-1]
    assert last.folder == tmp_path / "out/cells/mid/seed-1"
    assert last.overrides == {"optimiser.lr": "0.003", "moe.condition": "attribute", "seed": "1", "threads": "2"}
    assert (last.recipe.seed, last.recipe.threads, last.recipe.moe.condition) == (1, 2, "attribute")
    assert last.recipe.optimiser.lr == pytest.approx(3e-3)


def test_a_grid_names_its_arms_after_its_values(tmp_path: Path) -> None:
    grid = {"moe.condition": ["shared", "token"], "optimiser.lr": [1e-3, "3e-3"]}
    path = write_study(tmp_path, arms=None, grid=grid, seeds=[7], baseline="shared,lr=0.001", reference=None)
    plan = read_plan(path, tmp_path)
    assert plan.arms == ["shared,lr=0.001", "shared,lr=3e-3", "token,lr=0.001", "token,lr=3e-3"]
    assert [cell.recipe.optimiser.lr for cell in plan.cells] == pytest.approx([1e-3, 3e-3, 1e-3, 3e-3])
    assert [cell.seed for cell in plan.cells] == [7] * 4


def test_a_grid_multiplies_arms(tmp_path: Path) -> None:
    path = write_study(tmp_path, grid={"optimiser.clip": [0, 1]}, baseline=None, reference=None)
    assert read_plan(path, tmp_path).arms == [f"{arm},clip={clip}" for arm in ARMS for clip in (0, 1)]


def test_an_arm_may_drop_tasks(tmp_path: Path) -> None:
    arms = {"shared": None, "own": {"moe.condition": "task_specific"}, "alone": {"tasks": ["captions"]}}
    plan = read_plan(write_study(tmp_path, arms=arms, set={"tasks.colours.batch": 2}), tmp_path)
    shared, _, alone = plan.cells[:3]
    assert list(shared.recipe.tasks) == ["colours", "captions"]
    assert shared.recipe.tasks["colours"].batch == 2
    assert list(alone.recipe.tasks) == ["captions"]
    assert alone.recipe.tasks["captions"] == shared.recipe.tasks["captions"]
    assert "tasks.colours.batch" not in alone.overrides
    plan = read_plan(write_study(tmp_path, set={"tasks": ["colours"]}), tmp_path)
    assert plan.tasks == ["colours"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arm": {}}, "study.yaml: unknown key 'arm'; did you mean 'arms'?"),
        ({"arms": None}, "study.yaml: no arms; add arms: {NAME: {key: value}}, or grid"),
        ({"arms": {**ARMS, "x": {"optimiser.lrr": 1}}}, "in arm 'x': unknown key 'optimiser.lrr'; did you mean 'lr'?"),
        ({"set": {"step": 3}}, "in arm 'shared': unknown key 'step'; did you mean 'steps'?"),
        ({"set": {"steps": "many"}}, "key 'steps' has a wrong value 'many'"),
        ({"set": {"seed": 3}}, "seed is a key of the study itself; write seeds: there"),
        ({"grid": {"threads": [1, 2]}, "baseline": None, "reference": None}, "threads is a key of the study itself"),
        ({"grid": {"steps": []}}, "key 'grid.steps' has a wrong value []"),
        ({"grid": {"moe.condition": ["token"]}}, "arms.shared.moe.condition: the grid sets it, too"),
        ({"arms": {"../shared": {}}}, "arm '../shared': a name is made of letters, digits and"),
        (
            {"arms": None, "grid": {"optimiser.clip": [1, 1]}},
            "two arms are named 'clip=1'; rename one, or remove a value",
        ),
        ({"seeds": [1, 1]}, "seeds: [1, 1] names a seed twice"),
        ({"seeds": 0}, "'seeds"),
        ({"processes": 0}, "key 'processes' has a wrong value 0"),
        ({"baseline": "shard"}, "study.yaml: baseline: no arm 'shard'; did you mean 'shared'?"),
        ({"reference": "onw"}, "study.yaml: reference: no arm 'onw'; did you mean 'own'?"),
        ({"baseline": None}, "reference: a gap needs two ends; add baseline: NAME"),
        ({"single": {"colour": "own"}}, "single.colour: no such task; did you mean 'colours'?"),
        ({"single": {"colours": "one"}}, "single.colours: no arm 'one'; did you mean 'own'?"),
        ({"measure": {"caption": "loss"}}, "measure.caption: no such task; did you mean 'captions'?"),
        ({"arms": {**ARMS, "x": {"tasks": ["words"]}}}, "in arm 'x': tasks: no task 'words'"),
        (
            {"arms": {**ARMS, "x": {"tasks": ["captions"], "tasks.colours.batch": 2}}},
            "tasks.colours.batch: the arm has only the tasks captions; remove the key",
        ),
        (
            {"set": {"tasks.colours.kind": "image_class"}},
            "arm 'shared': tasks.colours.kind: unknown kind 'image_class'",
        ),
        ({"set": {"tasks.colours.size": 36}}, "tasks.colours.size: 36 is not a multiple of the patch side 8"),
        ({"arms": {**ARMS, "x": {"moe.condition": "tokn"}}}, "arm 'x': moe.condition 'tokn' is unknown; did"),
        (
            {"arms": {**ARMS, "x": {"moe.condition": "token", "moe.capacity.mode": "fixed"}}},
            "in arm 'x': unknown key 'moe.capacity.mode'",
        ),
        ({"recipe": "absent.yaml"}, "absent.yaml: no such file"),
    ],
)
def test_a_mistake_is_one_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_study(tmp_path, **changes)
    with pytest.raises(UserError) as refused:
        read_plan(path, tmp_path / "out")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_every_misspelt_key_of_a_study_is_refused(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    values = yaml.safe_load(path.read_text())
    for field in dataclasses.fields(StudyConfig):  # type: ignore[arg-type]
        for typo in typos(field.name):
            rest = {key: value for key, value in values.items() if key != field.name}
            path.write_text(yaml.safe_dump({**rest, typo: 1}), encoding="utf-8")
            with pytest.raises(UserError, match=rf"unknown key '{typo}'; did you mean '{field.name}'\?"):
                read_plan(path, tmp_path)


def test_tasks_that_are_kept_stay_in_the_order_of_the_recipe() -> None:
    assert list(_kept_tasks(["c", "a"], {"a": 1, "b": 2, "c": 3}, "here").items()) == [("a", 1), ("c", 3)]
