"""Runs of models with proposals that begin with another model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.regions_run import REGION_TASKS, region_values
from tests.small_run import train, values_of, write_recipe
from tests.started import first_model
from tests.tuned import tuning
from uniperceiver import Recipe, load
from uniperceiver.config import read_recipe
from uniperceiver.errors import UserError
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.strict import parse


def recipe(tasks: tuple[str, ...], **changes: Any) -> Recipe:
    return parse(Recipe, region_values(tasks, **changes), "recipe of regions")


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of finished runs: of boxes alone, of masks, and of pictures as patches."""
    folder = tmp_path_factory.mktemp("starts")
    train(folder / "boxes", recipe(("boxes",), steps=1))
    train(folder / "masks", recipe(("shapes",), steps=1))
    train(folder / "patches", parse(Recipe, values_of(("colours",), steps=1), "recipe of patches"))
    return folder


@pytest.mark.parametrize(
    ("tasks", "start", "changes", "message"),
    [
        (
            ("colours",),
            "patches",
            {},
            "reads pictures as patches, the recipe asks for regions; write model.image=patch",
        ),
        (("shapes",), "boxes", {}, "its model makes no masks; begin with one .* or leave such tasks out"),
    ],
)
def test_another_kind_of_model_is_refused(
    starts: Path, tmp_path: Path, tasks: tuple[str, ...], start: str, changes: dict[str, Any], message: str
) -> None:
    values = region_values(tasks, model__start=str(starts / start), **changes)
    with pytest.raises(UserError, match=message) as caught:
        first_model(write_recipe(tmp_path / "r.yaml", values), tmp_path / "run")
    assert "RegionShape" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__regions__points": 3}, "with points 2; write "),
        ({"model__regions__encoder": 1}, "with encoder 0; write "),
        ({"model__regions__mask_stride": 4}, "with mask_stride 2; write "),
    ],
)
def test_other_proposals_are_refused_and_the_mend_mends(
    starts: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = write_recipe(tmp_path / "r.yaml", region_values(("boxes",), model__start=str(starts / "boxes"), **changes))
    with pytest.raises(UserError, match=message) as caught:
        first_model(path, tmp_path / "run")
    first_model(path, tmp_path / "run", *str(caught.value).rpartition("; write ")[2].split())


def test_patches_cannot_begin_with_regions_and_the_mend_mends(starts: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "r.yaml", values_of(("colours",), model__start=str(starts / "boxes")))
    with pytest.raises(UserError, match="reads pictures as regions, the recipe asks for patches; write ") as caught:
        first_model(path, tmp_path / "run")
    mended = first_model(path, tmp_path / "run", *str(caught.value).rpartition("; write ")[2].split())
    assert mended.saved.arch.regions == load(starts / "boxes").saved.arch.regions


def test_boxes_of_larger_pictures_go_on_from_masks(starts: Path, tmp_path: Path) -> None:
    values = region_values(("boxes",), steps=2, model__start=str(starts / "masks"), tasks__boxes__size=136)
    path = write_recipe(tmp_path / "r.yaml", values)
    train(tmp_path / "run", read_recipe(path))
    shape = load(tmp_path / "run").saved.arch.regions
    assert shape is not None
    assert (shape.masks, shape.mask_stride) == (True, 2)  # as the start has them


@pytest.mark.parametrize("method", ["prompt", "full"])
def test_boxes_are_tuned(starts: Path, tmp_path: Path, method: str) -> None:
    tasks = {"nuclei": {**REGION_TASKS["boxes"], "augment": {}}}
    tuned = tuning(starts / "masks", method=method, steps=2, tasks=tasks)
    assert tuned.tasks["nuclei"].kind == "object_detection"
    train(tmp_path / "run", tuned)
    before, after = load(starts / "masks"), load(tmp_path / "run")
    assert after.saved.arch.regions == before.saved.arch.regions
    image = np.zeros((32, 32, 3), np.uint8)
    (old,), (new,) = before.detect(image, least=0.0), after.detect(image, least=0.0)
    assert len(new) == len(old)
    assert (new.scores != old.scores).any()


@pytest.mark.parametrize(
    ("start", "task", "message"),
    [
        ("patches", "boxes", "task 'things' reads proposals, which its model does not make; tune one that was trained"),
        ("boxes", "shapes", "task 'things' has masks, which its model does not make; tune one that was trained with a"),
    ],
)
def test_things_that_the_start_says_nothing_of_are_not_tuned(
    starts: Path, tmp_path: Path, start: str, task: str, message: str
) -> None:
    recipe = tuning(starts / start, tasks={"things": REGION_TASKS[task]})
    with pytest.raises(UserError, match=f"^model.start .*{message}"):
        prepare_run(recipe, tmp_path, tmp_path / "run")


@pytest.mark.parametrize(("queries", "tokens"), [(9, 7), (4, 3)])
def test_a_run_may_have_more_or_fewer_queries_than_its_start(
    starts: Path, tmp_path: Path, queries: int, tokens: int
) -> None:
    """Ranks that both have keep their vectors, the others are those of a freshly drawn model."""
    changes = {"model__regions__queries": queries, "model__regions__tokens": tokens}
    values = region_values(("boxes",), steps=1, model__start=str(starts / "boxes"), **changes)
    path = write_recipe(tmp_path / "r.yaml", values)
    run = prepare_run(read_recipe(path), tmp_path, tmp_path / "run", quiet=True)
    (note,) = (note for note in run.notes if "queries" in note)
    kept = "the first 4 keep their vectors" if queries == 4 else "the last 3 have newly drawn vectors"
    assert f"its model has 6 queries, the run {queries}, so {kept}; model.regions.queries=6 keeps them all" in note
    before = load_file(starts / "boxes" / "model/model.safetensors")
    after = run.objective.model.state_dict()
    (name,) = (name for name in before if name.endswith("decoder.rank"))
    shared = min(6, queries)
    assert torch.equal(after[name][:shared], before[name][:shared])
    assert all(torch.equal(after[other], value) for other, value in before.items() if other != name)
    assert 0 < after[name][shared:].std() < 0.04 if queries == 9 else len(after[name]) == 4
    train(tmp_path / "run", read_recipe(path))
    (answer,) = load(tmp_path / "run").detect(np.zeros((32, 32, 3), np.uint8), least=0.0)
    assert len(answer) == tokens * 7


def test_equal_queries_are_no_note(starts: Path, tmp_path: Path) -> None:
    values = region_values(("boxes",), steps=1, model__start=str(starts / "boxes"))
    path = write_recipe(tmp_path / "r.yaml", values)
    notes = prepare_run(read_recipe(path), tmp_path, tmp_path / "run", quiet=True).notes
    assert not [note for note in notes if "queries" in note]


def test_a_start_keeps_its_encoder_where_the_recipe_names_none(starts: Path, tmp_path: Path) -> None:
    train(tmp_path / "deep", recipe(("boxes",), steps=1, model__regions__encoder=2))
    values = region_values(("boxes",), steps=1, model__start=str(tmp_path / "deep"))
    train(tmp_path / "run", read_recipe(write_recipe(tmp_path / "r.yaml", values)))
    shape = load(tmp_path / "run").saved.arch.regions
    assert shape is not None
    assert shape.encoder == 2
