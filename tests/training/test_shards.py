"""Processes that share one copy of the weights make the run of one process: two by FSDP2, four by HSDP.

All conditions of routing, over ten steps, by both: `python -m soak processes`.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from tests import processes
from tests.process_scenarios import recipe_of, routed, trained
from tests.shard_scenarios import ALONE, IN_FOUR, IN_TWO, every, going_on
from tests.small_run import log_lines
from tests.training.test_processes import assert_close_lines, lines_of, seen_of
from uniperceiver import Recipe
from uniperceiver.errors import UserError
from uniperceiver.parallel.world import World
from uniperceiver.runs.steps import load_saved
from uniperceiver.training import checkpoint
from uniperceiver.training.processes.sharded import shard_size

of_processes = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
SECONDS = 600
Outcomes = dict[int, Any]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcomes, Path]:
    """All scenarios on one, two and four processes."""
    folder = tmp_path_factory.mktemp("shards")
    alone = {name: IN_TWO[name] for name in ALONE} | {"context": IN_FOUR["context"]}
    one = every(alone, folder, World())
    two = processes.run(2, partial(every, IN_TWO, folder), folder / "two", SECONDS)
    one["going on"] = going_on(4, 1, World(), folder / "going on")
    four = processes.run(4, partial(every, IN_FOUR, folder), folder / "four", SECONDS)
    one["to the end"] = going_on(8, 1, World(), folder / "going on")
    one["at once"] = trained(World(), folder / "at-once", recipe_of(steps=8, **routed("attribute")))
    return {1: one, 2: two, 4: four}, folder


@pytest.mark.parametrize(("name", "size"), [("token", 2), ("whole experts", 2), ("regions", 2), ("context", 4)])
class TestParity:
    pytestmark = of_processes

    def test_losses_are_those_of_one_process(self, outcomes: tuple[Outcomes, Path], name: str, size: int) -> None:
        results, folder = outcomes
        assert_close_lines(lines_of(folder, name, size), lines_of(folder, name, 1), 1e-5)
        one, several = results[1][name], [result[name] for result in results[size]]
        assert seen_of(several) == sorted(one["seen"])
        for result in several:
            assert result["counters"] == one["counters"]
            assert result["biases"] == pytest.approx(one["biases"], abs=1e-7)
            assert result["average"] == pytest.approx(one["average"], rel=1e-4, abs=1e-4)
            assert result["hash"] == several[0]["hash"]

    def test_what_nobody_used_is_left_alone(self, outcomes: tuple[Outcomes, Path], name: str, size: int) -> None:
        results, _ = outcomes
        for result in results[size]:
            assert result[name]["without"] == results[1][name]["without"]
            assert result[name]["moments"] == results[1][name]["moments"]
            assert set(result[name]["changed"]) <= set(result[name]["moments"])


def names_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestProcesses:
    pytestmark = of_processes

    def test_a_run_is_measured_and_saved_on_its_way(self, outcomes: tuple[Outcomes, Path]) -> None:
        _, folder = outcomes
        ours, expected = (lines_of(folder, "measured", size, "evaluate") for size in (2, 1))
        assert [line["step"] for line in ours] == [line["step"] for line in expected] == [2, 3]
        for line, other in zip(ours, expected, strict=True):
            assert line["score"] == pytest.approx(other["score"], rel=1e-4)
        lines = [line for line in lines_of(folder, "measured", 2) if "words/sampled_loss" in line]
        assert lines
        assert not any("words/loss" in line for line in lines)  # one process cannot ask the model alone
        others = {line["step"]: line for line in lines_of(folder, "measured", 1)}
        for line in lines:
            assert line["words/sampled_loss"] == pytest.approx(others[line["step"]]["words/sampled_loss"], rel=1e-5)

    def test_a_process_without_a_batch_makes_the_passes_of_the_others(self, outcomes: tuple[Outcomes, Path]) -> None:
        results, folder = outcomes
        several = [result["broken"] for result in results[2]]
        assert_close_lines(lines_of(folder, "broken", 2), lines_of(folder, "broken", 1), 1e-5)
        by_rank = [len({step for step, _, _ in result["seen"]}) for result in several]
        assert min(by_rank) < max(by_rank)
        for result in several:
            assert result["hash"] == several[0]["hash"]
            assert result["counters"] == results[1]["broken"]["counters"]
            assert result["without"] == results[1]["broken"]["without"]
            assert not any(".experts.0." in name for name in result["moments"])  # of colours, whom nobody has seen

    def test_a_loss_that_is_not_finite_is_skipped_by_all(self, outcomes: tuple[Outcomes, Path]) -> None:
        results, folder = outcomes
        assert_close_lines(lines_of(folder, "nan", 2), lines_of(folder, "nan", 1), 1e-5)
        assert len(lines_of(folder, "nan", 2, "skipped")) == 1
        for result in results[2]:
            assert result["nan"]["counters"] == results[1]["nan"]["counters"]

    def test_each_process_holds_its_part(self, outcomes: tuple[Outcomes, Path]) -> None:
        results, _ = outcomes
        (first, total), (second, other) = (result["held"] for result in results[2])
        assert total == other
        assert first + second - total < 0.01 * total  # scalars, which both have
        assert max(first, second) < 0.51 * total

    def test_what_would_be_wrong_in_silence_ends_the_run(self, outcomes: tuple[Outcomes, Path]) -> None:
        results, _ = outcomes
        for result in results[2]:
            assert result["dataclass"].startswith(
                "FSDPExpertLinear: was handed a copy of its arguments (Walked) by FSDP2"
            )
            assert "and must be called 2 times by every process" in result["third pass"]

    def test_weights_that_are_not_finite_are_named_by_all(self, outcomes: tuple[Outcomes, Path]) -> None:
        results, _ = outcomes
        for result in results[2]:
            assert "the weights 'head.linear.weight' are not finite" in result["not finite"]["end"]
            assert result["not finite"]["agreed"]

    def test_a_full_disk_ends_all_with_one_line(self, outcomes: tuple[Outcomes, Path]) -> None:
        results, folder = outcomes
        for result in results[2]:
            assert "could not be saved (" in result["disk full"]["end"]
            assert "No space left on device" in result["disk full"]["end"]
            assert "\n" not in result["disk full"]["end"]
            assert result["disk full"]["agreed"]
        assert names_of(folder / "disk-full-2" / "checkpoints") == []

    def test_copies_that_drift_apart_are_not_saved(self, outcomes: tuple[Outcomes, Path]) -> None:
        results, folder = outcomes
        for result in results[4]:
            assert "the weights 'head.linear.weight' of process " in result["drifted"]["end"]
            assert result["drifted"]["agreed"]
        assert not list((folder / "drifted-4").glob("checkpoints/step-*"))

    def test_a_checkpoint_in_shards_has_no_pickle(self, outcomes: tuple[Outcomes, Path]) -> None:
        _, folder = outcomes
        (path,) = (folder / "token-2" / "checkpoints").iterdir()
        assert names_of(path) == [
            "shard-00001-model-00001-of-00001.safetensors",
            "shard-00002-model-00001-of-00001.safetensors",
            "state.json",
        ]
        sizes = [file.stat().st_size for file in path.glob("*.safetensors")]
        assert max(sizes) < 1.2 * min(sizes)
        contents = json.loads((path / "state.json").read_text())
        assert (contents["format"], contents["layout"]) == (2, "shards")
        with safe_open(next(path.glob("shard-00002-*")), framework="pt") as file:
            assert "average/head.linear.weight" in file.keys()  # noqa: SIM118

    def test_the_model_is_one_file_of_the_same_weights(self, outcomes: tuple[Outcomes, Path]) -> None:
        _, folder = outcomes
        run = folder / "token-2"
        assert "model.safetensors" in names_of(run / "model")
        saved, of_step = load_saved(run).model.state_dict(), load_saved(run, step=4).model.state_dict()
        assert all(bool((value == of_step[name]).all()) for name, value in saved.items())

    def test_runs_go_on_from_shards_and_from_replicas(self, outcomes: tuple[Outcomes, Path]) -> None:
        """Two made steps 0-1 and share, one 2-3, four 4-5 and share by two, one the rest."""
        results, folder = outcomes
        assert [result["going on"]["counters"][0] for result in (*results[2], results[1], *results[4])] == [
            2, 2, 4, 6, 6, 6, 6,
        ]  # fmt: skip
        last, at_once = results[1]["to the end"], results[1]["at once"]
        assert_close_lines(log_lines(folder / "going-on", "train"), log_lines(folder / "at-once", "train"), 1e-5)
        assert last["counters"] == at_once["counters"]
        assert last["moments"] == at_once["moments"]
        formats = [
            json.loads(path.read_text())["format"] for path in sorted(folder.glob("going-on/*/step-*/state.json"))
        ]
        assert formats == [2, 1]

    def test_a_damaged_shard_is_named(self, outcomes: tuple[Outcomes, Path]) -> None:
        _, folder = outcomes
        (path,) = (folder / "whole-experts-2" / "checkpoints").iterdir()
        file = path / "shard-00002-model-00001-of-00001.safetensors"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        with pytest.raises(UserError, match=rf"{file.name}: damaged, its SHA-256"):
            checkpoint.read(path)


def two(**changes: Any) -> Recipe:
    return recipe_of(("colours", "retrieval"), **{"parallel__shard": 2, **changes})


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"balance__method": "pcgrad"}, "balance.method=pcgrad"),
        ({"balance__method": "famo"}, "balance.method=famo"),
        ({"balance__method": "own_moments"}, "balance.method=own_moments"),
        ({"optimiser__kind": "muon"}, "optimiser.kind=muon"),
        ({"optimiser__compile": True}, "optimiser.compile=true"),
        ({"optimiser__precision": "float16"}, "optimiser.precision=float16"),
        ({"model__start": "run", "tune__method": "prompt"}, "tune.method=prompt"),
        ({"candidates__share": "step"}, "candidates.share=step"),
        ({"tasks__retrieval__negatives": "step"}, "tasks.retrieval.negatives=step"),
    ],
)
def test_what_cannot_be_sharded_is_refused(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError) as refusal:
        shard_size(two(**changes), 2)
    assert str(refusal.value) == (
        f"parallel.shard=2: processes that share one copy of the weights cannot have {key}; change that key, or set "
        "parallel.shard=1"
    )
    assert shard_size(two(parallel__shard=1, **changes), 2) == 1


def test_shares_are_whole() -> None:
    assert [shard_size(two(parallel__shard=shard), 4) for shard in (0, 1, 2, 4)] == [4, 1, 2, 4]
    assert shard_size(two(parallel__shard=0), 1) == 1
    with pytest.raises(
        UserError, match=r"parallel\.shard=2: the number of processes must be a multiple of it, and is 3"
    ):
        shard_size(two(), 3)
