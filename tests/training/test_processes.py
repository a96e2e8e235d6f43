"""The same run on one process, on two and on four: real processes, started once for each number of them."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import processes
from tests.process_scenarios import CONDITIONS, IN_FOUR, IN_TWO, METHODS, every, going_on, recipe_of, routed, trained
from tests.small_run import log_lines
from tests.step_gradients import furthest
from uniperceiver.parallel.world import World
from uniperceiver.training import checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

SECONDS = 1200  # for all scenarios together, after which the processes are killed: 60 where nothing else runs
Outcomes = dict[int, Any]  # by number of processes; of several, the list of what each has


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcomes, Path]:
    """All scenarios on one, four and two processes."""
    folder = tmp_path_factory.mktemp("processes")
    alone = {
        name: scenario for name, scenario in IN_TWO.items() if name not in ("stopped", "drifted", "refused", "going on")
    }
    one = every(alone, folder, World())
    four = processes.run(4, partial(every, IN_FOUR, folder), folder / "four", SECONDS)
    two = processes.run(2, partial(every, IN_TWO, folder), folder / "two", SECONDS)
    one["going on"] = going_on(World(), folder / "going on")
    one["whole"] = trained(World(), folder / "whole", recipe_of(steps=9, **routed("attribute")))
    return {1: one, 2: two, 4: four}, folder


def lines_of(folder: Path, name: str, size: int, event: str = "train") -> list[dict[str, Any]]:
    return log_lines(folder / f"{name.replace(' ', '-')}-{size}", event)


def assert_close_lines(
    ours: list[dict[str, Any]], expected: list[dict[str, Any]], tolerance: float, *, flips_after: int | None = None
) -> None:
    """The same losses, norms and learnt weights, in lines of the same steps.

    Args:
        flips_after: where tokens are routed by value: the step after which an expert may have been chosen that is as
            good as another one to the last digit, which is another digit on every processor; losses differ then.
    """
    assert [line["step"] for line in ours] == [line["step"] for line in expected]
    for line, other in zip(ours, expected, strict=True):
        assert line.keys() == other.keys()
        if flips_after is not None and line["step"] > flips_after:
            tolerance = 1e-3
        for key in line:
            if line[key] is None or other[key] is None:  # a step without an update has no loss and no norm
                assert line[key] is other[key]
            elif key.endswith(("loss", "grad_norm", "weight", "lr")):
                # A norm is small where gradients cancel each other, and their order is another.
                allowed = 5 * tolerance if key == "grad_norm" else tolerance
                assert line[key] == pytest.approx(other[key], rel=allowed, abs=1e-12), (line["step"], key)


def seen_of(results: list[Any]) -> list[Any]:
    return sorted(batch for result in results for batch in result["seen"])


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_losses_are_those_of_one_process(outcomes: tuple[Outcomes, Path], condition: str, size: int) -> None:
    results, folder = outcomes
    name = f"parity {condition}"
    if size == 4 and name not in IN_FOUR:
        pytest.skip("two processes show it")
    flips_after = 5 if condition.split()[0] in ("token", "context", "expert_choice") else None
    assert_close_lines(lines_of(folder, name, size), lines_of(folder, name, 1), 1e-5, flips_after=flips_after)
    (one, several) = results[1][name], [result[name] for result in results[size]]
    assert seen_of(several) == sorted(one["seen"])  # every sample once, whoever makes it
    for result in several:
        assert result["without"] == one["without"]
        assert result["moments"] == one["moments"]
        assert set(result["changed"]) <= set(
            result["moments"]
        )  # experts that nobody chose are as they were, bit for bit
        assert result["counters"] == one["counters"]
        assert result["biases"] == pytest.approx(one["biases"], abs=1e-7)
        assert result["average"] == pytest.approx(one["average"], rel=1e-4, abs=1e-4)
        assert result["hash"] == several[0]["hash"]  # the processes do not drift apart
    assert all(result["seen"] for result in several)


def test_figures_of_experts_are_those_of_one_process(outcomes: tuple[Outcomes, Path]) -> None:
    _, folder = outcomes
    ours, expected = (lines_of(folder, "parity token", size, "experts")[-1]["groups"] for size in (2, 1))
    key = lambda group: [group[name] for name in ("task", "layer", "part", "gate", "side", "kind")]  # noqa: E731
    assert sorted(map(key, ours)) == sorted(map(key, expected))
    for group, other in zip(sorted(ours, key=key), sorted(expected, key=key), strict=True):
        assert group["tokens"] == other["tokens"]
        assert group["load"] == pytest.approx(other["load"], abs=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_balancing_methods_are_those_of_one_process(outcomes: tuple[Outcomes, Path], method: str) -> None:
    results, folder = outcomes
    name = f"balance {method}"
    assert_close_lines(lines_of(folder, name, 2), lines_of(folder, name, 1), 2e-5)
    for result in results[2]:
        assert result[name]["balance"].keys() == results[1][name]["balance"].keys()
        for key, value in result[name]["balance"].items():
            torch.testing.assert_close(value, results[1][name]["balance"][key], rtol=1e-3, atol=1e-5)


def test_batches_of_a_draw_weigh_by_their_answers(outcomes: tuple[Outcomes, Path]) -> None:
    _, folder = outcomes
    ours, expected = (lines_of(folder, "accumulated", size) for size in (2, 1))
    assert_close_lines(ours, expected, 1e-5)
    assert any("words/sampled_loss" in line for line in ours)


@pytest.mark.parametrize("size", [2, 4])
def test_places_without_a_batch_are_left_out_together(outcomes: tuple[Outcomes, Path], size: int) -> None:
    results, folder = outcomes
    several = [result["broken"] for result in results[size]]
    assert all(result["counters"] == several[0]["counters"] for result in several)
    assert all(result["hash"] == several[0]["hash"] for result in several)
    assert all(result["broken"] == several[0]["broken"] for result in several)
    assert len(several[0]["broken"]["colours"]) > 3
    names = [line["sample"] for line in lines_of(folder, "broken", size, "broken")]
    assert sorted(names) == sorted(several[0]["broken"]["colours"])  # each once
    by_rank = [len({step for step, _, _ in result["seen"]}) for result in several]
    assert min(by_rank) < max(by_rank)  # steps in which a process had nothing
    assert any(".experts.0." in name for name in several[0]["without"])  # of `colours`, whom nobody has seen
    assert not any(".experts.0." in name for name in several[0]["moments"])


@pytest.mark.parametrize("name", ["nan", "infinite"])
def test_a_loss_that_is_not_finite_is_skipped_by_all(outcomes: tuple[Outcomes, Path], name: str) -> None:
    results, folder = outcomes
    assert_close_lines(lines_of(folder, name, 2), lines_of(folder, name, 1), 1e-5)
    ours, expected = (lines_of(folder, name, size, "skipped") for size in (2, 1))
    same = ("step", "reason", "samples")
    assert [[line[key] for key in same] for line in ours] == [[line[key] for key in same] for line in expected]
    assert len(ours) == 2
    for result in results[2]:
        assert result[name]["counters"] == results[1][name]["counters"]
        assert result[name]["moments"] == results[1][name]["moments"]


@pytest.mark.parametrize("name", ["five nan", "too many broken", "disk full"])
def test_what_ends_a_run_ends_all_with_one_line(outcomes: tuple[Outcomes, Path], name: str) -> None:
    results, _ = outcomes
    assert results[1][name]["end"].startswith("UserError: ")
    for result in results[2]:
        assert result[name]["end"] == results[1][name]["end"]
        assert result[name]["agreed"]  # so that one of them tells people
        assert result[name]["counters"] == results[1][name]["counters"]


def test_a_signal_to_one_process_stops_all_after_the_same_step(outcomes: tuple[Outcomes, Path]) -> None:
    results, folder = outcomes
    assert [result["stopped"]["end"] for result in results[2]] == ["Stopped: "] * 2
    (step,) = {result["stopped"]["counters"][0] for result in results[2]}
    assert step in (2, 3)
    newest = checkpoint.newest_valid(folder / "stopped-2" / "checkpoints").path
    assert newest is not None
    assert checkpoint.step_of(newest) == step


def test_weights_that_drift_apart_are_not_saved(outcomes: tuple[Outcomes, Path]) -> None:
    results, folder = outcomes
    for result in results[2]:
        assert "the weights 'head.linear.bias' of process " in result["drifted"]["end"]
        assert result["drifted"]["agreed"]
    assert not list((folder / "drifted-2").glob("checkpoints/step-*"))


@pytest.mark.parametrize("size", [2, 4])
def test_figures_of_the_same_weights_are_the_same_bit_for_bit(outcomes: tuple[Outcomes, Path], size: int) -> None:
    results, _ = outcomes
    for result in results[size]:
        assert result["same model"]["tasks"] == results[1]["same model"]["tasks"]
    assert results[1]["same model"]["tasks"]["captions"]["train"]["n"] == 12


def test_evaluations_during_training_are_agreed(outcomes: tuple[Outcomes, Path]) -> None:
    _, folder = outcomes
    ours, expected = (log_lines(folder / f"measured-{size}" / "run", "evaluate") for size in (2, 1))
    assert [line["step"] for line in ours] == [line["step"] for line in expected] == [2]
    assert ours[0]["score"] == pytest.approx(expected[0]["score"], rel=1e-4)


def test_figures_of_a_run_lie_within_the_intervals_of_one_process(outcomes: tuple[Outcomes, Path]) -> None:
    results, _ = outcomes
    expected, compared = results[1]["measured"]["tasks"], 0
    for result in results[2]:
        for task, splits in result["measured"]["tasks"].items():
            for split, figures in splits.items():
                theirs = expected[task][split]
                assert figures.keys() == theirs.keys()
                for name in [name for name in figures if f"{name}_low" in figures]:
                    assert theirs[f"{name}_low"] - 1e-9 <= figures[name] <= theirs[f"{name}_high"] + 1e-9, (task, name)
                    compared += 1
    assert compared > 20


@pytest.mark.parametrize("size", [2, 4])
def test_candidates_of_a_step_are_exact_whoever_encodes_them(outcomes: tuple[Outcomes, Path], size: int) -> None:
    results, _ = outcomes
    for result in results[size]:
        assert furthest(result["exact"], results[1]["exact"]) < 1e-12
        for (task, loss), (other, expected) in zip(
            result["exact"]["losses"], results[1]["exact"]["losses"], strict=True
        ):
            assert (task, loss) == (other, pytest.approx(expected, rel=1e-12))


def test_losses_that_balance_experts_weigh_the_same_whoever_encodes_a_chunk(outcomes: tuple[Outcomes, Path]) -> None:
    results, _ = outcomes
    for result in results[2]:
        assert furthest(result["exact balance"], results[1]["exact balance"]) < 1e-12


def test_what_cannot_be_done_together_is_refused(outcomes: tuple[Outcomes, Path]) -> None:
    results, _ = outcomes
    for result in results[2]:
        few, watch, device = result["refused"]
        assert few == (
            "a step has 1 batch for 2 processes; set sampling.tasks_per_step=2 or more, or use fewer processes"
        )
        assert watch.startswith("interference.watch: is for one process; remove the key, and measure afterwards")
        assert device.startswith("device=cpu:0: each of several processes has a device of its own")


def test_a_run_goes_on_with_other_numbers_of_processes(outcomes: tuple[Outcomes, Path]) -> None:
    results, folder = outcomes
    assert [result["going on"]["counters"][0] for result in results[4]] == [3] * 4
    assert [result["going on"]["counters"][0] for result in results[2]] == [6] * 2
    parts = [*(r["going on"] for r in results[4]), *(r["going on"] for r in results[2]), results[1]["going on"]]
    assert seen_of(parts) == sorted(results[1]["whole"]["seen"])
    assert_close_lines(log_lines(folder / "going-on", "train"), log_lines(folder / "whole", "train"), 1e-5)
    assert parts[-1]["counters"] == results[1]["whole"]["counters"]
