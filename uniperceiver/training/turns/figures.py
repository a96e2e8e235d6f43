"""Which tasks were trained in which shapes, beside what was planned: batches, tokens, and the time of their steps."""

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from statistics import median
from typing import Any

from uniperceiver.data.mix import Mixture, Plan
from uniperceiver.data.turns import alike, turns_at
from uniperceiver.parallel.world import World
from uniperceiver.records import Batch
from uniperceiver.training.turns.tokens import TokenCount

_REMEMBERED = 256  # steps of a signature, whose median time is told


class TurnFigures:
    """Counts batches and tokens by task and shape, since the process began to train, and times steps of one shape.

    Nothing here waits for a device: tokens are counted from shapes, and a step ends when its gradient norm is known.
    """

    def __init__(self, mixture: Mixture, world: World) -> None:
        self._mixture, self._world = mixture, world
        self._batches, self._tokens = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
        self._seconds: defaultdict[tuple[int, int], deque[float]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))
        self._window, self._is_known = TokenCount(), True
        # Of each stage of each task, the first stage that has the same sizes.
        self._keys = [
            [(index, alike(tasks, number)) for number in range(len(tasks.stages))]
            for index, tasks in enumerate(mixture.sets)
        ]

    def add(
        self, work: Sequence[tuple[Plan, Batch]], counts: Sequence[TokenCount | None], seconds: float = 0.0
    ) -> None:
        """Take in the batches of a step that this process has, and how many tokens each has."""
        for (plan, _), count in zip(work, counts, strict=True):
            key = self._keys[plan.index][plan.stage]
            self._batches[key] += 1
            if count is None:
                self._is_known = False
                continue
            self._tokens[key] += count.inputs
            self._window = self._window.plus(count)
        if work and self._mixture.draws == 1:  # else the time is that of several tasks
            self._seconds[self._keys[work[0][0].index][work[0][0].stage]].append(seconds)

    def take(self, elapsed: float) -> dict[str, float]:
        """tokens_per_second and padding since the last call; TASK/steps and TASK/tokens, shares since the beginning,
        of batches and of the tokens of their inputs.

        What depends on tokens is left out where a tokenizer does not tell how many it makes.

        Args:
            elapsed: seconds since the last call.
        """
        own = [self._window.valid, self._window.encoded, self._is_known, *self._counts()]
        parts, self._window = self._world.gather(own), TokenCount()
        valid, encoded = (sum(part[place] for part in parts) for place in (0, 1))
        values: dict[str, float] = {}
        if encoded and all(part[2] for part in parts):
            values = {"tokens_per_second": valid / elapsed, "padding": 1 - valid / encoded}
        batches, tokens = _sums(part[3:] for part in parts)
        for name, counts in (("steps", batches), ("tokens", tokens)):
            by_task = Counter[int]()
            for (index, _), count in counts.items():
                by_task[index] += count
            for index, tasks in enumerate(self._mixture.sets) if by_task.total() else ():
                values[f"{tasks.task.name}/{name}"] = by_task[index] / by_task.total()
        return values

    def signatures(self, step: int) -> dict[str, list[dict[str, Any]]]:
        """A row for each task and shape that is planned at that step: its plan, and what there was since the beginning.

        `steps` and `tokens` are shares, `planned_steps` and `planned_tokens` those of the plan; `ms` is the median time
        of a step, None where steps have batches of several tasks.
        """
        batches, tokens = _sums(self._world.gather(self._counts()))
        rows = []
        for turn in turns_at(self._mixture, step):
            key, seconds = (turn.index, turn.stage), self._seconds[turn.index, turn.stage]
            rows.append(
                {
                    "task": turn.task,
                    "shape": turn.shape,
                    "batch": turn.batch,
                    "sample_tokens": turn.tokens,
                    "planned_steps": round(turn.steps, 4),
                    "steps": round(batches[key] / (batches.total() or 1), 4),
                    "planned_tokens": round(turn.share, 4),
                    "tokens": round(tokens[key] / (tokens.total() or 1), 4),
                    "ms": round(1000 * median(seconds), 3) if seconds else None,
                }
            )
        return {"signatures": rows}

    def _counts(self) -> list[list[list[int]]]:
        return [[[*key, count] for key, count in counts.items()] for counts in (self._batches, self._tokens)]


def _sums(parts: Any) -> tuple[Counter[tuple[int, int]], Counter[tuple[int, int]]]:
    """Counts of batches and tokens by task and stage, of all processes."""
    sums = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
    for part in parts:
        for total, rows in zip(sums, part, strict=True):
            for index, stage, count in rows:
                total[index, stage] += count
    return sums
