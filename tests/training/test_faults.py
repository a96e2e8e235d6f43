"""Disks that fail, damaged checkpoints and values that are not finite: nothing saved is lost, and the user is told."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.parts import flat
from soak import disk
from soak.endurance import endurance, slope
from soak.runs import hash_of, newest_hash
from tests.small_run import log_lines, small_recipe, train
from uniperceiver.errors import UserError
from uniperceiver.optimisation.adamw import average_into
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.training import checkpoint
from uniperceiver.training.log import RunLog
from uniperceiver.training.loop import Run
from uniperceiver.training.state import pack
from uniperceiver.training.step import TrainState

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
NAN = float("nan")


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> disk.Trial:
    return disk.Trial(tmp_path_factory.mktemp("trial"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "share", "for_good"),
    [
        (errno.ENOSPC, 0.5, True),
        (errno.ENOSPC, 0.6, True),
        (errno.EIO, 0.55, False),
        (errno.EIO, 0.9, False),
        (errno.EROFS, 0.0, True),
        (errno.EACCES, 0.4, True),
    ],
)
def test_a_write_that_fails_is_one_line_and_loses_nothing(
    trial: disk.Trial, error: int, share: float, for_good: bool
) -> None:
    number = 1 + int(share * disk.count_calls(trial))
    (found,) = disk.failing_calls(trial, error, iter([number]), for_good=for_good)
    assert found.good, found
    if found.code:
        assert os.strerror(error) in found.output
        assert "repair the disk" in found.output


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_is_full_or_read_only(trial: disk.Trial) -> None:
    found = disk.full_disk(trial, 3)
    if found is None:
        pytest.skip("no file system can be mounted here")
    assert all(each.good for each in found), found
    assert [each.code for each in found] == [2] * 4
    assert "No space left on device" in found[0].output
    assert "Read-only file system" in found[-1].output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    log = RunLog(tmp_path, first_step=0, steps=1, tensorboard=False, quiet=True)
    with pytest.raises(UserError, match=r"log.jsonl: cannot be written \(No space left on device\); free or repair"):
        log.line(1, "train", {"loss": 1.0})
    log.close()


def test_damage_is_noticed_wherever_it_is(trial: disk.Trial) -> None:
    found = list(disk.damages(trial, truncations=20, flips=100))
    assert len(found) == 120
    assert [each for each in found if not (each.detected and each.fell_back)] == []


def _steps(*steps: int) -> list[str]:
    return [f"step-{step:06d}" for step in steps]


def test_a_run_whose_weights_are_not_finite_goes_on_before_them(tmp_path: Path) -> None:
    recipe = small_recipe(steps=4, checkpoint__every=2)
    train(tmp_path / "run", recipe, stop_after=2)
    run = prepare_run(recipe, tmp_path, tmp_path / "run", quiet=True)
    run._resume()
    run.state.step = 3
    next(run.state.model.parameters()).data.view(-1)[0] = NAN
    run.save()
    root = tmp_path / "run" / "checkpoints"
    found = checkpoint.newest_valid(root)
    assert found.path == root / "step-000002"
    assert found.skipped[0].endswith(
        "step-000003: its weights are not finite; remove this checkpoint and use another one"
    )
    train(tmp_path / "run", recipe)
    train(tmp_path / "whole", recipe)
    assert newest_hash(tmp_path / "run") == newest_hash(tmp_path / "whole")
    assert any("weights are not finite" in line["text"] for line in log_lines(tmp_path / "run", "note"))


def _rewrite(folder: Path, change: Callable[[dict[str, Any]], None], *, signed: bool = True) -> None:
    """Change state.json, with a SHA-256 that fits if `signed`."""
    path = folder / "state.json"
    contents = json.loads(path.read_text(encoding="utf-8"))
    expected = contents.pop("sha256")
    change(contents)
    contents["sha256"] = checkpoint._own_sha256(contents) if signed else expected
    path.write_text(json.dumps(contents), encoding="utf-8")


def test_a_checkpoint_of_a_newer_version_is_neither_passed_over_nor_removed(tmp_path: Path) -> None:
    recipe = small_recipe(steps=4, checkpoint__every=2)
    train(tmp_path, recipe)
    root = tmp_path / "checkpoints"
    _rewrite(root / "step-000004", lambda contents: contents.update(format=2))
    with pytest.raises(UserError, match=r"step-000004/state.json: format 2, of a newer uniperceiver .*; upgrade it"):
        train(tmp_path, recipe)
    assert [path.name for path in checkpoint.list_checkpoints(root)] == _steps(2, 4)


def test_a_flipped_bit_in_the_format_is_damage_and_no_newer_version(tmp_path: Path) -> None:
    train(tmp_path, small_recipe(steps=4, checkpoint__every=2))
    root = tmp_path / "checkpoints"
    _rewrite(root / "step-000004", lambda contents: contents.update(format=3), signed=False)
    found = checkpoint.newest_valid(root)
    assert found.path == root / "step-000002"
    assert "damaged" in found.skipped[0]


def test_another_tokenizer_than_that_of_the_weights_is_refused(tmp_path: Path) -> None:
    train(tmp_path, small_recipe(steps=1))
    path = tmp_path / "tokenizer.json"
    text = path.read_text(encoding="utf-8")
    changed = text.replace('"cleaning": "lower"', '"cleaning": "spaces"')
    assert changed != text
    path.write_text(changed, encoding="utf-8")
    with pytest.raises(UserError, match=r"tokenizer.json: does not belong to the weights of .*; restore the one"):
        train(tmp_path, small_recipe(steps=2))
    path.write_bytes((tmp_path / "model" / "tokenizer.json").read_bytes())
    assert train(tmp_path, small_recipe(steps=2)).state.step == 2


@pytest.fixture
def warm(tmp_path: Path) -> Run:
    """A run after two steps, with moments and an average to spoil."""
    run = prepare_run(small_recipe(steps=9, optimiser__ema=0.9), tmp_path, tmp_path / "warm", quiet=True)
    run.state.consumed = [0, 0]
    for work in _work(run, 2):
        assert run._step(work).skipped is None
    return run


def _work(run: Run, steps: int) -> Iterator[list[Any]]:
    from uniperceiver.data.mix import BatchMaker

    maker = BatchMaker(run.mixture)
    for _ in range(steps):
        made = [maker[plan] for plan in run.mixture.plans(run.state.step, run.state.consumed)]
        yield [(plan, batch) for plan, batch, _ in made]


def _weights_hash(state: TrainState) -> str:
    return hash_of(pack(state, [str(place) for place in range(len(state.consumed))])[0], {})


def _spoil_data(run: Run, work: list[Any]) -> None:
    for _, batch in work:
        if flat(batch.inputs).pixels_BFCHW is not None:
            flat(batch.inputs).pixels_BFCHW[0, 0, 0, 0, 0] = NAN


def _spoil_gradient(run: Run, work: list[Any]) -> None:
    weight = next(each for each in run.state.model.parameters() if each.grad is not None)
    weight.register_hook(lambda gradient: gradient * NAN)


@pytest.mark.parametrize("spoil", [_spoil_data, _spoil_gradient])
def test_what_is_not_finite_changes_no_bit_of_the_state(warm: Run, spoil: Callable[[Run, list[Any]], None]) -> None:
    before = _weights_hash(warm.state)
    (work,) = _work(warm, 1)
    spoil(warm, work)
    assert warm._step(work).skipped is not None
    assert _weights_hash(warm.state) == before
    assert (warm.state.skipped, warm.state.step) == (1, 3)


def test_a_hash_notices_one_bit(warm: Run) -> None:
    before = _weights_hash(warm.state)
    assert warm.state.average is not None
    average_into(warm.state.average, warm.state.model, 0.999999)
    assert _weights_hash(warm.state) != before


def test_gradients_that_are_never_finite_stop_the_run_with_the_names(tmp_path: Path) -> None:
    run = prepare_run(small_recipe(steps=9), tmp_path, tmp_path / "run", quiet=True)
    next(run.state.model.parameters()).register_hook(lambda gradient: gradient * NAN)
    before = _weights_hash(run.state)
    with pytest.raises(UserError, match=r"step 4: gradient was not finite 5 times in a row; .*scenes/train/0000"):
        run.train()
    assert _weights_hash(run.state) == before
    lines = log_lines(tmp_path / "run", "skipped")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert all(line["samples"] for line in lines)


def test_steps_without_an_update_have_no_loss_and_no_norm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = prepare_run(small_recipe(steps=3, log__every=1), tmp_path, tmp_path / "run", quiet=False)
    next(run.state.model.parameters()).register_hook(lambda gradient: gradient * (NAN if run.state.step == 1 else 1.0))
    run.train()
    norms = [line["grad_norm"] for line in log_lines(tmp_path / "run", "train")]
    assert norms[1] is None
    assert all(norm > 0 for norm in (norms[0], norms[2]))
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step 2 of 3")]
    assert said
    assert all("loss nan" in line for line in said)


@pytest.mark.parametrize("step", [0, 2])
def test_weights_that_are_not_finite_are_named_at_once(tmp_path: Path, step: int) -> None:
    run = prepare_run(small_recipe(steps=9, checkpoint__every=2), tmp_path, tmp_path / "run", quiet=True)
    do = run._step

    def spoilt(work: Any) -> Any:
        if run.state.step == step:
            run.state.model.get_parameter("head.linear.weight").data[0, 0] = NAN
        return do(work)

    run._step = spoilt  # type: ignore[method-assign]
    if step == 0:
        run.state.model.get_parameter("head.linear.weight").data[0, 0] = NAN
    with pytest.raises(UserError) as caught:
        run.train()
    where = f"{tmp_path / 'run'}: step 0" if step == 0 else "step 2"
    assert str(caught.value).startswith(f"{where}: the weights 'head.linear.weight' are not finite")
    assert "go on from the newest checkpoint" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "run").exists() == (step > 0)  # what is refused at the start is not begun
    assert step == 0 or len(log_lines(tmp_path / "run", "skipped")) == 1  # of the spoilt step, with its samples
    saved = [path.name for path in checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints")]
    assert saved == ([] if step == 0 else _steps(2))


@pytest.mark.slow
def test_memory_and_files_stay_as_they_are(tmp_path: Path) -> None:
    found = endurance(tmp_path, 500)
    assert found.slope < 20  # MB per 1,000 steps; so early, memory has not yet settled
    assert found.files[0] == found.files[1]
    assert found.objects[1] - found.objects[0] < 1000


def test_a_single_jump_does_not_move_the_slope() -> None:
    x_N = torch.arange(50.0).numpy()
    y_N = 2 * x_N
    y_N[7] += 1000
    assert slope(x_N, y_N) == pytest.approx(2)
