"""Many tiny steps: memory and open files stay as they are."""

import gc
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from soak import forked
from soak.runs import quieten
from tests.small_run import TEXTS, small_recipe
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.strict import parse

_PAGE = os.sysconf("SC_PAGE_SIZE")
_SAMPLES = 200  # measurements of a whole run


@dataclass(frozen=True, kw_only=True)
class Endurance:
    """What a long run held."""

    steps: int
    warm: int  # steps before the first measurement that counts
    slope: float  # MB per 1,000 steps: the median of the slopes between all pairs of measurements
    memory: tuple[float, float]  # MB at the first and last measurement that counts
    files: tuple[int, int]  # fewest and most open file handles between steps
    objects: tuple[int, int]  # of Python, at the first and last measurement that counts


def endurance(folder: Path, steps: int) -> Endurance:
    """Train that many steps in a process of its own, with log lines, evaluations and checkpoints on the way."""
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "results.json"
    ended = forked.start(lambda: _measured(folder / "run", steps, results), folder / "output.txt").wait(7200)
    assert ended.code == 0, ended.output
    values = json.loads(results.read_text(encoding="utf-8"))
    return parse(Endurance, values, "endurance")


def _measured(out: Path, steps: int, results: Path) -> int:
    quieten()
    changes: dict[str, Any] = {
        "steps": steps,
        "tasks__relations__batch": 1,
        "tasks__relations__train": {**TEXTS, "label": "relation", "items": 500},
        "sampling__tasks_per_step": 1,
        "optimiser__ema": 0.9,
        "evaluation__every": max(steps // 10, 1),
        "checkpoint__every": max(steps // 20, 1),
        "log__every": max(steps // 200, 1),
    }
    run = prepare_run(small_recipe(("relations",), **changes), out, out, quiet=True)
    step, seen, every = run._step, list[tuple[float, ...]](), max(steps // _SAMPLES, 1)

    def counting(work: Any) -> Any:
        if run.state.step % every == 0:
            gc.collect()  # of what has come since `freeze`
            seen.append((run.state.step, _resident(), len(os.listdir("/proc/self/fd")), len(gc.get_objects())))
        return step(work)

    run._step = counting  # type: ignore[method-assign]
    gc.freeze()
    run.train()
    warm = steps // 5
    counted = np.array([point for point in seen if point[0] >= warm])
    result = Endurance(
        steps=steps,
        warm=warm,
        slope=1000 * slope(counted[:, 0], counted[:, 1]),
        memory=(float(counted[0, 1]), float(counted[-1, 1])),
        files=(int(counted[:, 2].min()), int(counted[:, 2].max())),
        objects=(int(counted[0, 3]), int(counted[-1, 3])),
    )
    results.write_text(json.dumps(asdict(result)), encoding="utf-8")
    return 0


def slope(x_N: np.ndarray, y_N: np.ndarray) -> float:
    """The median slope between all pairs of points (Theil and Sen): single jumps do not move it."""
    first, second = np.triu_indices(len(x_N), k=1)
    return float(np.median((y_N[second] - y_N[first]) / (x_N[second] - x_N[first])))


def _resident() -> float:
    """Memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * _PAGE / 1e6
