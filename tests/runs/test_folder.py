"""When a run may go on."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.small_run import IMAGES, TEXTS, small_recipe
from uniperceiver.errors import UserError
from uniperceiver.runs.folder import check_same_run, refuse_foreign, save_recipe


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", 9),
        ("device", "cuda"),
        ("threads", 3),
        ("data__workers", 4),
        ("data__max_broken", 0.5),
        ("evaluation__every", 7),
        ("checkpoint__keep", 7),
        ("log__tensorboard", True),
        ("optimiser__recompute", True),
    ],
)
def test_what_may_change_when_a_run_goes_on(tmp_path: Path, key: str, value: Any) -> None:
    save_recipe(small_recipe(), tmp_path, tmp_path)
    check_same_run(small_recipe(**{key: value}), tmp_path)


def test_what_may_not_change(tmp_path: Path) -> None:
    check_same_run(small_recipe(), tmp_path)  # no run yet
    save_recipe(small_recipe(), tmp_path, tmp_path)
    check_same_run(small_recipe(), tmp_path)
    for changes in (
        {"tasks__captions__train": {**IMAGES, "items": 3}},
        {"tasks__captions__train": {**IMAGES, "seed": 3}},
    ):
        with pytest.raises(UserError, match=r"holds a run with tasks.captions.train\.(items|seed)="):
            check_same_run(small_recipe(**changes), tmp_path)
    with pytest.raises(UserError, match=r"holds a run with tasks\.words"):
        check_same_run(small_recipe(("colours", "captions", "words"), tasks__words__train=TEXTS), tmp_path)
    turned = replace(small_recipe(), tasks=dict(reversed(small_recipe().tasks.items())))
    with pytest.raises(UserError, match=r"holds a run with the tasks in the order .*; keep that order"):
        check_same_run(turned, tmp_path)


@pytest.mark.parametrize(
    ("beside", "is_run"), [(("tokenizer.json",), True), (("log.jsonl",), True), ((), False), (("model.txt",), False)]
)
def test_a_folder_with_a_recipe_is_a_run_by_what_every_run_has(
    beside: tuple[str, ...], is_run: bool, tmp_path: Path
) -> None:
    for name in ("notes.txt", *beside):
        (tmp_path / name).write_text("")
    (tmp_path / "recipe.yaml").write_text("# relative paths start at: /\ntasks: {}\n")
    with nullcontext() if is_run else pytest.raises(UserError):
        refuse_foreign(tmp_path)
