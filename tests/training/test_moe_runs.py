"""Runs with experts: resumed bit for bit, experts that nobody chose left alone, everything saved that belongs to them.

Shape suffixes: E experts.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.small_run import assert_same, log_lines, same_tensors, small_recipe, train
from uniperceiver import load
from uniperceiver.data.mix import BatchMaker
from uniperceiver.optimisation.adamw import optimiser_tensors
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.training.checkpoint import newest_valid
from uniperceiver.training.loop import Run
from uniperceiver.training.step import StepReport

FULL: dict[str, Any] = {
    "optimiser__accumulate": 2,
    "optimiser__ema": 0.9,
    "optimiser__precision": "bfloat16",
    "candidates__sample": 20,
    "evaluation__every": 2,
}
CAPTIONS, SENTENCES = ("colours", "captions"), ("colours", "relations", "words")


def moe(condition: str, **more: Any) -> dict[str, Any]:
    return {"condition": condition, "experts": 4, **more}


BIASED = moe("token", balance={"switch": 0.0, "bias_rate": 0.01})
WHOLE = moe("token", level="ffn", where="ffn")
EVEN = moe("context", gates="linear", balance={"importance": 0.1, "load": 0.1, "z": 0.01, "global_entropy": 0.1})


OF_THE_PROCESS = ("_per_second", "seconds", "/steps", "/tokens")


def figures(folder: Path) -> list[dict[str, Any]]:
    """What a run's log says of every step, without times and shares, which are of what one process has made."""
    return [
        {name: value for name, value in line.items() if "time" not in name and not name.endswith(OF_THE_PROCESS)}
        for event in ("train", "evaluate")
        for line in log_lines(folder, event)
    ]


@pytest.mark.parametrize(
    ("tasks", "mode", "section", "changes", "stops"),
    [
        (CAPTIONS, "mixed", moe("attribute"), FULL, (2,)),
        (CAPTIONS, "unmixed", moe("attribute", k=1), {}, (1, 3)),
        (CAPTIONS, "mixed", BIASED, {}, (1,)),
        (CAPTIONS, "mixed", EVEN, {}, (3,)),
        (SENTENCES, "mixed", moe("token", capacity={}), {}, (2,)),
        (SENTENCES, "unmixed", moe("expert_choice"), {}, (3,)),
        (SENTENCES, "mixed", WHOLE, {}, (1,)),
        (SENTENCES, "mixed", moe("task", where="attention"), {}, (1,)),
        (SENTENCES, "unmixed", moe("modality"), {}, (2,)),
        pytest.param(CAPTIONS, "unmixed", BIASED, FULL, (2,), marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_goes_on_bit_for_bit(
    tmp_path: Path,
    tasks: tuple[str, ...],
    mode: str,
    section: dict[str, Any],
    changes: Mapping[str, Any],
    stops: tuple[int, ...],
) -> None:
    recipe = small_recipe(tasks, sampling__mode=mode, moe=section, **changes)
    whole = train(tmp_path / "whole", recipe)
    for stop in stops:
        train(tmp_path / "parts", recipe, stop_after=stop)
    parts = train(tmp_path / "parts", recipe)
    assert_same(whole, parts)
    assert figures(tmp_path / "whole") == figures(tmp_path / "parts")
    assert len(figures(tmp_path / "whole")) >= 4
    biases = {name: each for name, each in whole.state.model.named_buffers() if name.endswith("bias_E")}
    assert bool(biases) == (section is BIASED)
    assert all(bool(bias_E.any()) for bias_E in biases.values())
    assert all(bool(torch.isfinite(each).all()) for each in whole.state.model.state_dict().values())


def one_step(run: Run) -> StepReport:
    """The next step of a run that is not trained by its loop."""
    run.state.consumed = run.state.consumed or [0] * len(run.mixture.sets)
    plans = run.mixture.plans(run.state.step, run.state.consumed)
    made = [BatchMaker(run.mixture)[plan] for plan in plans]
    return run._step([(plan, batch) for plan, batch, _ in made if batch is not None])


def of_expert(run: Run, expert: int) -> dict[str, Tensor]:
    """Weights, gradients and moments of one expert of every linear, as they are now."""
    optimiser = optimiser_tensors(run.state.model, run.state.optimiser)
    parameters = dict(run.state.model.named_parameters())
    gradients = {f"gradient/{name}": each.grad for name, each in parameters.items() if each.grad is not None}
    found = {**parameters, **gradients, **optimiser}
    return {name: each.detach().clone() for name, each in found.items() if f".experts.{expert}." in name}


def fresh(folder: Path, tasks: tuple[str, ...], section: dict[str, Any], **changes: Any) -> Run:
    changes = {"optimiser__weight_decay": 0.5, "optimiser__warmup": 0, "optimiser__ema": 0.5, **changes}
    return prepare_run(small_recipe(tasks, moe=section, **changes), folder, folder / "run", quiet=True)


def test_an_expert_that_nobody_chose_is_left_alone(tmp_path: Path) -> None:
    """With a copy for each task it is known who is chosen: `colours` has experts 0, `captions` has experts 1."""
    run = fresh(tmp_path, CAPTIONS, moe("task_specific"), sampling__mode="unmixed", steps=12)
    drawn, start = [], of_expert(run, 1)
    average = {name: each.clone() for name, each in run.state.average.items()}  # type: ignore[union-attr]
    for step in range(8):
        (task,) = set(run.mixture.tasks_of(step))
        before = {expert: of_expert(run, expert) for expert in (0, 1)}
        one_step(run)
        after = {expert: of_expert(run, expert) for expert in (0, 1)}
        drawn.append(task)
        other = 1 - task
        assert not any(name.startswith("gradient/") for name in after[other])
        kept = {name: each for name, each in before[other].items() if not name.startswith("gradient/")}
        assert same_tensors(kept, after[other])
        assert not any(torch.equal(each, after[task][name]) for name, each in before[task].items() if "/" not in name)
        if other not in drawn:
            assert not any("exp_avg" in name for name in after[other])
            assert same_tensors(start, after[other]) or other == 0
            names = [name for name in average if f".experts.{other}." in name]
            assert all(torch.equal(average[name], run.state.average[name]) for name in names)  # type: ignore[index]
    assert set(drawn) == {0, 1}


def test_an_expert_that_is_chosen_late_gets_its_state_after_a_stop(tmp_path: Path) -> None:
    seed = next(seed for seed in range(50) if _first_draws(tmp_path / f"{seed}", seed) == [0, 0, 1, 1])
    changes = {"sampling__mode": "unmixed", "seed": seed, "optimiser__weight_decay": 0.5}
    recipe = small_recipe((*CAPTIONS, "words"), moe=moe("task_specific"), tasks__words__weight=1e-9, **changes)
    whole = train(tmp_path / "whole", recipe)
    stopped = train(tmp_path / "parts", recipe, stop_after=2)
    assert not any("exp_avg" in name for name in of_expert(stopped, 1))
    parts = train(tmp_path / "parts", recipe)
    assert_same(whole, parts)
    assert any("exp_avg" in name for name in of_expert(parts, 1))
    never = prepare_run(recipe, tmp_path, tmp_path / "fresh", quiet=True)
    assert same_tensors(of_expert(never, 2), {n: v for n, v in of_expert(parts, 2).items() if "/" not in n})
    found = newest_valid(tmp_path / "parts" / "checkpoints").path
    assert found is not None
    saved = load_file(found / "optimiser.safetensors")
    assert any(".experts.1." in name for name in saved)
    assert not any(".experts.2." in name for name in saved)


def _first_draws(folder: Path, seed: int) -> list[int]:
    recipe = small_recipe((*CAPTIONS, "words"), sampling__mode="unmixed", seed=seed, tasks__words__weight=1e-9)
    mixture = prepare_run(recipe, folder, folder, quiet=True).mixture
    return [mixture.tasks_of(step)[0] for step in range(4)]


@pytest.mark.parametrize("level", ["linear", "ffn"])
def test_an_expert_that_no_token_chose_is_left_alone(tmp_path: Path, level: str) -> None:
    section = moe("token", level=level, where="ffn", balance={"bias_rate": 1e-3})
    run = fresh(tmp_path, CAPTIONS, section)
    one_step(run)
    for name, bias_E in run.state.model.named_buffers():
        if name.endswith("bias_E"):
            bias_E[3] = -1000.0  # nobody will choose it
    before = of_expert(run, 3)
    assert any("exp_avg" in name for name in before)
    one_step(run)
    after = of_expert(run, 3)
    assert same_tensors({name: each for name, each in before.items() if not name.startswith("gradient/")}, after)
    assert any(name.startswith("gradient/") for name in of_expert(run, 2))


@pytest.mark.parametrize("condition", ["attribute", "token", "context", "task_specific"])
def test_the_loss_falls(tmp_path: Path, condition: str) -> None:
    changes = {"optimiser__warmup": 5, "model__layer_scale": 0.3, "model__drop_path": 0.0}
    recipe = small_recipe(("colours",), steps=30, moe=moe(condition), tasks__colours__batch=12, **changes)
    train(tmp_path / "run", recipe)
    losses = [line["colours/loss"] for line in log_lines(tmp_path / "run", "train")]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@pytest.mark.parametrize("section", [moe("attribute"), BIASED, EVEN, WHOLE])
def test_what_is_saved_is_what_was_trained(tmp_path: Path, section: dict[str, Any]) -> None:
    recipe = small_recipe(moe=section, optimiser__ema=0.5)
    run, start = train(tmp_path / "run", recipe), prepare_run(recipe, tmp_path, tmp_path / "start", quiet=True)
    before = dict(start.state.model.named_parameters())
    weights = dict(run.state.model.named_parameters())
    experts = [name for name in weights if ".experts." in name]
    inner = "experts.{}.linear1" if section.get("level") == "ffn" else "linear1.experts.{}"
    assert {f"encoder.blocks.0.ffn.{inner}.weight".format(expert) for expert in range(4)} <= set(experts)
    assert all(weights[name].ndim <= 2 for name in experts)
    found = newest_valid(tmp_path / "run" / "checkpoints").path
    assert found is not None
    assert same_tensors(load_file(found / "model.safetensors"), dict(run.state.model.state_dict()))
    average = run.state.average
    assert average is not None
    gates = [name for name in average if ".router." in name and weights[name].grad is not None]
    assert gates
    assert not any(torch.equal(average[name], other[name]) for name in gates for other in (before, weights))
    loaded = load(tmp_path / "run")
    expected = {**run.state.model.state_dict(), **average}
    assert same_tensors(dict(loaded.model.state_dict()), expected)
    assert any(name.endswith("bias_E") for name in expected) == (section is BIASED)


def test_a_saved_model_answers_as_the_trained_one(tmp_path: Path) -> None:
    for number, section in enumerate((moe("attribute"), BIASED, EVEN)):
        folder = tmp_path / str(number)
        run = train(folder, small_recipe(("colours", "captions", "retrieval"), moe=section))
        one, other = load(folder), load(folder / "model")
        one.model.load_state_dict(run.state.model.state_dict())
        pictures = [torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
        images = [(each.permute(1, 2, 0) * 255).byte().numpy() for each in pictures]
        assert torch.equal(one.classify(images, task="colours"), other.classify(images, task="colours"))
        assert torch.equal(one.rank(images, ["a", "b c d"]), other.rank(images, ["a", "b c d"]))
        assert one.caption(images, task="captions") == other.caption(images, task="captions")
        again = tmp_path / f"{number} again"
        one.save_pretrained(again)
        assert (again / "model.safetensors").read_bytes() == (folder / "model" / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of the tracer's own making
@pytest.mark.parametrize("condition", ["attribute", "task_specific", "token"])
def test_compiled_blocks_compute_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, condition: str) -> None:
    compile_module = torch.nn.Module.compile  # traced as ever, but run as it is: kernels would take minutes

    def traced(self: torch.nn.Module, **options: Any) -> None:
        compile_module(self, backend="eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", traced)
    runs = [
        train(tmp_path / f"{on}", small_recipe(steps=1, moe=moe(condition), optimiser__compile=on))
        for on in (False, True)
    ]
    assert runs[1].state.model.encoder.blocks[0]._compiled_call_impl is not None
    for one, other in zip(*(run.state.model.parameters() for run in runs), strict=True):
        torch.testing.assert_close(one, other)
