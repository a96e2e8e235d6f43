"""Detection beside Deformable DETR: both learn from the same batches and are measured alike."""

import sys
from pathlib import Path

import pytest

from benchmarks.detection import DeformablePeer, _caption_row, _recipe, deformable_detr
from benchmarks.learning import OfRecipe
from tests.regions_run import region_values
from tests.small_run import write_recipe
from uniperceiver.data.tasks import open_tasks
from uniperceiver.errors import UserError


def a_recipe(folder: Path) -> Path:
    return write_recipe(folder / "recipe.yaml", region_values(("boxes", "captions"), model__width=32))


def test_the_recipe_is_cut_to_its_first_detection_task(tmp_path: Path) -> None:
    recipe = _recipe(a_recipe(tmp_path), 3)
    assert list(recipe.tasks) == ["boxes"]
    assert (recipe.seed, recipe.sampling.tasks_per_step) == (3, 1)


@pytest.mark.slow
def test_the_peer_learns_and_is_measured(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    recipe = _recipe(a_recipe(tmp_path), 0)
    tasks = open_tasks(recipe, tmp_path)
    peer = DeformablePeer(OfRecipe(recipe, tasks, tmp_path, tmp_path / "run", 10))
    before = [parameter.clone() for parameter in peer.model.parameters()]
    peer.step()
    peer.step()
    assert any(not parameter.equal(old) for parameter, old in zip(peer.model.parameters(), before, strict=True))
    assert 0 <= peer.measured()["boxes"].main <= 1


@pytest.mark.slow
def test_captions_over_regions_are_judged_for_the_size_as_shipped(tmp_path: Path) -> None:
    recipe = _recipe(a_recipe(tmp_path), 0)
    shipped, small = (_caption_row(recipe, size, tmp_path, pairs=1) for size in ("as shipped", "of the recipe"))
    assert (shipped.goal, small.goal) == (1.5, None)
    assert shipped.value > 0
    assert small.name == "step/captions/nano of the recipe/regions-over-patches"


def test_without_transformers_the_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'transformers>=5.20'$"):
        deformable_detr(_recipe(a_recipe(tmp_path), 0), 3)
