"""The table of methods, what a recipe is refused for, and whole runs: each stops and goes on bit for bit."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.balancing import method
from tests.markdown import blocks, read, section
from tests.small_run import assert_same, log_lines, small_recipe, train
from uniperceiver.config import TaskBalanceConfig, read_recipe
from uniperceiver.errors import UserError
from uniperceiver.optimisation.balance.methods import METHODS
from uniperceiver.runs.checks.recipe import check_balance
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.training.state import pack

TEXTS = ("relations", "words")
LEARNT = {"uncertainty", "gradnorm", "dwa", "famo"}  # weights with a state


def recipe_for(name: str, **changes: Any) -> Any:
    unmixed = {"sampling__mode": "unmixed"} if name == "tbgn" else {}
    usual = {"steps": 6, "balance__method": name, "balance__period": 2, "tasks__words__loss_weight": 0.7}
    return small_recipe(TEXTS, **{**usual, **unmixed, **changes})


def test_a_method_is_looked_up_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^balance\.method: no method 'pcgrd'; did you mean 'pcgrad'\?"):
        prepare_run(recipe_for("pcgrd"), tmp_path, tmp_path / "run")
    monkeypatch.setitem(METHODS, "pcgrd", METHODS["pcgrad"])
    assert type(prepare_run(recipe_for("pcgrd"), tmp_path, tmp_path / "run").state.method) is METHODS["pcgrad"]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_a_row_in_the_page_for_users(name: str) -> None:
    assert f"| `{name}` |" in read("docs/balancing.md")


def test_every_key_is_explained() -> None:
    keys = section("docs/balancing.md", "## Keys")
    assert not [field.name for field in fields(TaskBalanceConfig) if f"| `{field.name}` |" not in keys]  # type: ignore[arg-type]


def test_the_recipe_of_the_page_trains(tmp_path: Path) -> None:
    (block,) = blocks("docs/balancing.md", "yaml")
    path = tmp_path / "recipe.yaml"
    path.write_text(block.text, encoding="utf-8")
    small = {"steps": "2", "device": "cpu", "model.width": "16", "model.layers": "1", "model.heads": "2"}
    quick = {"data.workers": "0", "log.tensorboard": "false", "evaluation.limit": "4", "evaluation.max_words": "4"}
    recipe = read_recipe(path, small | quick)
    assert (recipe.balance.method, recipe.balance.radius) == ("cagrad", 0.4)
    assert train(tmp_path / "run", recipe).state.step == 2


@pytest.mark.parametrize("name", METHODS)
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, name: str) -> None:
    recipe = recipe_for(name)
    whole = train(tmp_path / "whole", recipe)
    stopped = train(tmp_path / "parts", recipe, stop_after=3)
    assert stopped.state.step == 3
    parts = train(tmp_path / "parts", recipe)
    assert_same(whole, parts)
    assert bool(whole.state.method.state()) == (name in LEARNT)
    shown = dict(whole.state.method.shown())
    assert shown == parts.state.method.shown()
    assert set(shown) == (set(TEXTS) if name in LEARNT else set())
    lines = [log_lines(tmp_path / folder, "train") for folder in ("whole", "parts")]
    assert len(lines[0]) == 6
    for one, other in zip(*lines, strict=True):
        for key in ("relations/weight", "words/weight", "relations/loss", "grad_norm"):
            assert one.get(key) == other.get(key)
        assert ("words/weight" in one) == (name in LEARNT)
    if name in LEARNT:
        assert len({line["words/weight"] for line in lines[0]}) > 1  # it has learnt something


@pytest.mark.parametrize("name", ["uncertainty", "gradnorm", "dwa", "famo"])
def test_a_state_is_saved_by_task(name: str, tmp_path: Path) -> None:
    run = prepare_run(recipe_for(name), tmp_path, tmp_path / "run", quiet=True)
    run.state.consumed = [0, 0]
    groups, _ = pack(run.state, TEXTS)
    assert {task for key in groups["balance"] for task in TEXTS if key.endswith(f"/{task}")} == set(TEXTS)


def test_a_method_knows_its_tasks(tmp_path: Path) -> None:
    run = prepare_run(recipe_for("tbgn", tasks__relations__weight=3.0, tasks__words__weight=1.0), tmp_path, tmp_path)
    facts = run.state.method.tasks
    assert {name: (each.loss_weight, each.share) for name, each in facts.items()} == {
        "relations": (1.0, 0.75),
        "words": (0.7, 0.25),
    }
    assert run.state.method.seed == run.recipe.seed


MORE = {
    "bfloat16": {"optimiser__precision": "bfloat16"},
    "accumulation": {"optimiser__accumulate": 2, "sampling__tasks_per_step": 3},
    "experts": {"moe": {"condition": "token", "experts": 4}, "balance__window": 1},
    "window": {"sampling__mode": "unmixed", "balance__window": 3},
}


@pytest.mark.parametrize("kind", MORE)
@pytest.mark.parametrize("name", ["cagrad", "famo"])
def test_it_works_with(tmp_path: Path, name: str, kind: str) -> None:
    recipe = recipe_for(name, steps=2, **MORE[kind])
    run = train(tmp_path / "run", recipe)
    usual = train(tmp_path / "usual", recipe_for("fixed", steps=2, **{**MORE[kind], "balance__window": 1}))
    assert run.state.skipped == 0
    times = recipe.balance.window
    assert sum(run.state.consumed) == times * sum(usual.state.consumed)
    assert not any(each.isnan().any() for each in pack(run.state, TEXTS)[0]["model"].values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"method": "pcgrad", "mode": "unmixed"},
            r"^balance.method=pcgrad: needs several tasks at the same weights, and .*balance.window to 2",
        ),
        ({"method": "famo", "mode": "unmixed"}, r"^balance.method=famo: needs several tasks at the same weights"),
        (
            {"method": "nash", "each": 1},
            r"^balance.method=nash: needs several tasks in a step; set sampling.tasks_per_step to 2",
        ),
        ({"method": "tbgn"}, r"^balance.method=tbgn: needs steps of one task; set sampling.mode=unmixed$"),
        (
            {"method": "tbgn", "mode": "unmixed", "window": 2},
            r"^balance.method=tbgn: needs steps of one task; remove balance.window$",
        ),
        (
            {"method": "tbgn", "mode": "unmixed", "late": 2.0},
            r"^balance.method=tbgn: needs the same weights in the whole run; remove tasks.words.late.weight$",
        ),
        ({"window": 2}, r"^balance.window: is for sampling.mode=unmixed; in mixed steps, set sampling.tasks_per_step"),
        ({"method": "dwa", "tasks": 1}, r"^balance.method=dwa: balances several tasks, the run has 1; add tasks, or"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    sampling = {"mode": changes.get("mode", "mixed"), "tasks_per_step": changes.get("each", 2)}
    balance = {"method": changes.get("method", "fixed"), "window": changes.get("window", 1)}
    recipe = small_recipe(TEXTS, sampling=sampling, balance=balance, tasks__words__late__weight=changes.get("late"))
    with pytest.raises(UserError, match=message):
        check_balance(recipe, changes.get("tasks", 2))


@pytest.mark.parametrize("name", METHODS)
def test_a_recipe_that_can_be_is_not_refused(name: str) -> None:
    check_balance(recipe_for(name), 2)
    if METHODS[name].several_at_once:
        check_balance(recipe_for(name, sampling__mode="unmixed", balance__window=2), 2)
    if METHODS[name].least_tasks == 1:
        check_balance(recipe_for(name), 1)
    assert type(method(name)) is METHODS[name]


def test_a_refused_recipe_leaves_nothing(tmp_path: Path) -> None:
    recipe = recipe_for("pcgrad", sampling__mode="unmixed")
    with pytest.raises(UserError, match="several tasks at the same weights"):
        prepare_run(recipe, tmp_path, tmp_path / "run")
    assert not (tmp_path / "run").exists()
