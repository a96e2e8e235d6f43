"""What goes wrong with single samples, steps and gates: left out, named in the log, and bounded."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from uniperceiver.errors import UserError
from uniperceiver.moe.statistics import GatePlace
from uniperceiver.parallel.environment import AGREED
from uniperceiver.parallel.parts import is_part, local
from uniperceiver.parallel.world import World
from uniperceiver.records import Broken
from uniperceiver.training.experts import CollapseAlarm, collapse_warning, move_biases
from uniperceiver.training.log import RunLog
from uniperceiver.training.step import TrainState

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # whole numbers of so many bytes
_MOST_SKIPPED = 5  # steps without an update in a row


def count_broken(broken: Broken, size: int, share: float, state: TrainState, log: RunLog) -> None:
    """Count and name a broken sample of a training set of that size, once.

    Args:
        share: of the set that may be broken; one sample always may.

    Raises:
        UserError: more of them are.
    """
    # Of the step that is being made: a run that is cut off before its next checkpoint counts it again.
    name_broken(broken, state.step + 1, state, log)
    count = len(state.broken[broken.task])
    if count > max(1, share * size):
        raise UserError(
            f"task {broken.task!r}: {count} of {size} samples are broken, the last {broken.sample}: {broken.reason}; "
            "mend or remove them, or raise data.max_broken"
        )


def name_broken(broken: Broken, step: int, state: TrainState, log: RunLog) -> None:
    """Count and name a broken sample once in a run, on the console and in the log's lines of that step."""
    reasons = state.broken.setdefault(broken.task, {})
    if broken.sample in reasons:
        return
    reasons[broken.sample] = broken.reason
    log.say(f"broken sample left out: {broken.task}: {broken.sample}: {broken.reason}", warning=True)
    log.line(step, "broken", {"task": broken.task, "sample": broken.sample, "reason": broken.reason})


def report_skip(reason: str, batches: Iterable[tuple[str, Iterable[str]]], state: TrainState, log: RunLog) -> None:
    """Say that the step had no update, and which samples it saw.

    Args:
        batches: task and names of the samples of each.

    Raises:
        UserError: no later step can do better: the weights are not finite, or it was the fifth step in a row.
    """
    step, ids = state.step - 1, defaultdict[str, list[str]](list)
    for task, names in batches:  # a task may have several in a step
        ids[task] += names
    log.say(f"step {step}: {reason} is not finite; no update", warning=True)
    log.line(state.step, "skipped", {"reason": reason, "samples": ids})
    refuse_weights(state.model, f"step {step}")
    if state.skipped_in_a_row >= _MOST_SKIPPED:
        listed = "; ".join(f"{task}: {', '.join(samples)}" for task, samples in ids.items())
        raise UserError(
            f"step {step}: {reason} was not finite {_MOST_SKIPPED} times in a row; look at these samples, or "
            f"start anew with a lower optimiser.lr: {listed}"
        )


def follow_gates(
    state: TrainState, loads: Mapping[GatePlace, Tensor], rate: float, alarm: CollapseAlarm | None, log: RunLog
) -> None:
    """Move the gates' biases by the loads of a step, and log gates that have collapsed, or recovered, by it."""
    move_biases(state.model, loads, rate)
    if alarm is None:
        return
    collapsed, recovered = alarm.add(loads)
    if collapsed:
        text = collapse_warning(state.step, collapsed)
        log.say(text, warning=True)
        log.line(state.step, "warning", {"text": text, "gates": [gate.figures() for gate in collapsed]})
    if recovered:
        text = f"step {state.step}: routing has recovered at {', '.join(map(str, recovered))}"
        log.say(text)
        log.line(state.step, "note", {"text": text})


def refuse_weights(model: nn.Module, where: str) -> None:
    """Refuse weights that are not finite: every loss would be like them.

    Raises:
        UserError: there are such weights; the first ones are named.
    """
    name = next((name for name, value in model.state_dict().items() if not torch.isfinite(local(value)).all()), None)
    if name is not None:
        raise UserError(
            f"{where}: the weights {name!r} are not finite, and no loss will be; go on from the newest checkpoint "
            "(the same command does), or begin with other weights"
        )


def refuse_drift(model: nn.Module, world: World, shard: int = 1) -> None:
    """Refuse to save where processes that should have the same weights have not: something else has changed some.

    Args:
        shard: processes that hold one copy together: each has what every process of a number `shard` further on has.

    Raises:
        UserError: in all processes; the first weights that differ are named, and whose they are.
    """
    if world.size == 1:
        return
    weights = model.state_dict()
    is_part_N = torch.tensor([is_part(value) for value in weights.values()])
    weights = {name: local(value) for name, value in weights.items()}
    # The sum of the bits, as whole numbers: exact, and another one for any single weight that is another one.
    bits_N = torch.stack(
        [value.flatten().view(_BITS[value.element_size()]).long().sum().cpu() for value in weights.values()]
    )
    sums_RN = torch.stack(world.gather(bits_N))
    differs_RN = sums_RN != sums_RN.mode(dim=0).values
    for part in range(shard):
        of_part_rN = sums_RN[part::shard]
        differs_RN[part::shard, is_part_N] = (of_part_rN != of_part_rN.mode(dim=0).values)[:, is_part_N]
    if bool(differs_RN.any()):
        place = int(differs_RN.any(dim=0).nonzero()[0])
        ranks = ", ".join(map(str, differs_RN[:, place].nonzero().flatten().tolist()))
        error = UserError(
            f"the weights {list(weights)[place]!r} of process {ranks} are not those of the others, so nothing is "
            "saved; go on from the newest checkpoint (the same command does), and look for what else changes weights"
        )
        error.add_note(AGREED)
        raise error
