"""Which steps torch.compile makes graphs for: one for each task and shape, if texts have few lengths."""

import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from uniperceiver.data.mix import Mixture, Plan
from uniperceiver.records import Batch
from uniperceiver.training.log import RunLog

Work = list[tuple[Plan, Batch]]
Made = TypeVar("Made")

_ENOUGH = 3  # steps of a signature, after which it should need no more graphs


class GraphLog:
    """Tells of the graphs that a step of training has made, and of what they cost; of what is not compiled, nothing."""

    def __init__(self, mixture: Mixture, *, compiled: bool) -> None:
        self._mixture, self._compiled = mixture, compiled
        self._graphs = 0
        self._steps = Counter[str]()
        self._noted: set[str] = set()

    def watch(self, function: Callable[[Work], Made], step: int, work: Work, log: RunLog) -> tuple[Made, float]:
        """What a step comes to, and its seconds; graphs that it has made are told, with the seconds and what for.

        A signature that still needs graphs after its third step is noted once: its batches have other sizes again.
        """
        before, began = self._made(), time.perf_counter()
        made = function(work)
        seconds = time.perf_counter() - began
        if self._compiled:
            self._tell(self._made() - before, step, work, seconds, log)
        return made, seconds

    def _tell(self, new: int, step: int, work: Work, seconds: float, log: RunLog) -> None:
        signatures = list(dict.fromkeys(self._signature(plan) for plan, _ in work))
        self._steps.update(signatures)
        if new <= 0:
            return
        self._graphs += new
        log.line(step, "graphs", {"signatures": signatures, "new": new, "graphs": self._graphs, "seconds": seconds})
        count = f"{new} graph{'s' if new > 1 else ''}"
        log.say(f"step {step}: {count} for {', '.join(signatures)}, in {seconds:.1f} s ({self._graphs} so far)")
        late = [name for name in signatures if self._steps[name] > _ENOUGH and name not in self._noted]
        if late:
            self._noted.update(late)
            text = (
                f"{', '.join(late)}: still new graphs after {_ENOUGH} steps, as sizes of its batches vary; set "
                "sampling.round, or optimiser.compile=true"
            )
            log.say(text)
            log.line(step, "note", {"text": text})

    def _signature(self, plan: Plan) -> str:
        training_set = self._mixture.sets[plan.index]
        stage = training_set.stages[plan.stage]
        return " ".join(part for part in (training_set.task.name, f"({stage.name})" if stage.name else "") if part)

    def _made(self) -> int:
        """Graphs that this process has made so far."""
        if not self._compiled:
            return 0
        from torch._dynamo.utils import counters  # loaded only where something is compiled

        return int(counters["stats"]["unique_graphs"])
