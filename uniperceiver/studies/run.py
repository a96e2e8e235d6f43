"""CELLS -> RUNS: cells are trained by processes of their own, several at a time."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from uniperceiver.studies.cells import CellOutcome, beside, write_outcome
from uniperceiver.studies.plan import StudyCell, StudyPlan
from uniperceiver.training.stop import EXIT_CODE, StopRequest
from uniperceiver.waiting import shows_bars

_TICK = 0.1  # seconds between looks at the processes
_BETWEEN_LINES = 60.0  # seconds, where there is no bar
_LOOK = 20  # ticks between looks at their logs
_TAIL = 8192  # bytes of a log in which its last line is


@dataclass(frozen=True, kw_only=True)
class _RunningCell:
    cell: StudyCell
    process: subprocess.Popen[bytes]


def run_cells(
    plan: StudyPlan,
    todo: Sequence[StudyCell],
    stop: StopRequest,
    on_end: Callable[[CellOutcome], None],
    *,
    quiet: bool = False,
) -> bool:
    """Train cells until all have ended; False where a signal has stopped them, after they saved.

    Args:
        on_end: is told of every cell that ended, after it was written.
        quiet: no progress bar.
    """
    waiting, running = deque(todo), list[_RunningCell]()
    ended, cut_off, due = len(plan.cells) - len(todo), False, 0.0
    with _bar(len(plan.cells), quiet) as (progress, bar), _none_left(running):
        with_lines = not (quiet or shows_bars(progress.console))
        for tick in itertools.count():
            if stop.requested and not cut_off and (waiting or running):
                cut_off = True
                waiting.clear()
                _stop(running)
            while waiting and len(running) < plan.config.processes:
                running.append(_start(plan, waiting.popleft()))
            for ending in [job for job in running if job.process.poll() is not None]:
                running.remove(ending)
                if not cut_off or ending.process.returncode == 0:  # else it goes on with the next command
                    outcome = write_outcome(ending.cell, ending.process.returncode)
                    _print_end(progress, ending.cell, outcome)
                    on_end(outcome)
                    ended += 1
            if tick % _LOOK == 0 or not running:
                text = _show(progress, bar, plan, ended, running)
                if with_lines and time.monotonic() >= due:
                    progress.console.print(text, highlight=False, markup=False, soft_wrap=True)
                    due = time.monotonic() + _BETWEEN_LINES
            if not running and not waiting:
                return not cut_off
            time.sleep(_TICK)
    raise AssertionError("the loop above only ends by returning")


def _start(plan: StudyPlan, cell: StudyCell) -> _RunningCell:
    """A process of its own, which signals to this one do not reach."""
    cell.folder.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "NO_COLOR": "1"}
    if plan.config.threads:
        environment["OMP_NUM_THREADS"] = str(plan.config.threads)
    with beside(cell, ".log").open("wb") as log:
        process = subprocess.Popen(
            command_of(plan, cell),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=environment,
            process_group=0 if sys.platform != "win32" else None,
        )
    return _RunningCell(cell=cell, process=process)


def command_of(plan: StudyPlan, cell: StudyCell) -> list[str]:
    """What is run, in words."""
    words = [f"{key}={value}" for key, value in cell.overrides.items()]
    python = [sys.executable, "-m", "uniperceiver", "train"]
    return [*plan.config.launch, *python, str(plan.recipe), *words, "--out", str(cell.folder), "--json"]


def _stop(running: Sequence[_RunningCell]) -> None:
    for job in running:
        with suppress(ProcessLookupError):
            job.process.terminate()


@contextmanager
def _none_left(running: list[_RunningCell]) -> Iterator[None]:
    """Whatever happens in the block, no process outlives it."""
    try:
        yield
    finally:
        _stop(running)
        for job in running:
            job.process.wait()


@contextmanager
def _bar(cells: int, quiet: bool) -> Iterator[tuple[Progress, TaskID]]:
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        disable=quiet or not shows_bars(console),
        refresh_per_second=1,
        speed_estimate_period=3600,
    )
    with progress:
        yield progress, progress.add_task("cells", total=cells, note="")


def _show(progress: Progress, bar: TaskID, plan: StudyPlan, ended: int, running: Sequence[_RunningCell]) -> str:
    """Cells that ended count as one, those that are trained as the share of their steps; the same in words."""
    notes, share = [], 0.0
    for cell in [job.cell for job in running]:
        step, steps = _steps_done(cell.folder), cell.recipe.steps
        share += min(step / steps, 1.0)
        notes.append(f"{cell.arm}/{cell.seed} {step}/{steps}")
    text = f"cells {ended}/{len(plan.cells)}"
    progress.update(bar, completed=ended + share, description=text, note=" · ".join(notes))
    return f"{text}: {', '.join(notes)}" if notes else text


def _steps_done(folder: Path) -> int:
    """The step of the last whole line of a run's log."""
    try:
        with (folder / "log.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().split(b"\n")
        return int(json.loads(lines[-2])["step"])
    except (OSError, ValueError, IndexError, KeyError):
        return 0


def _print_end(progress: Progress, cell: StudyCell, outcome: CellOutcome) -> None:
    """Print a line about a cell that ended; of a failed cell also its last lines."""
    name = f"{cell.arm}, seed {cell.seed}"
    if outcome.state == "done":
        progress.console.print(f"{name}: done", highlight=False, markup=False)
        return
    last_lines = "\n".join(f"  {line}" for line in outcome.last_lines)
    text = f"{name}: failed ({why_failed(outcome.exit_code)}); {beside(cell, '.log')} ends with\n{last_lines}"
    progress.console.print(text, style="red", highlight=False, markup=False, soft_wrap=True)


def why_failed(exit_code: int) -> str:
    """An exit code in words."""
    if exit_code < 0:
        return f"ended by signal {-exit_code}"
    if exit_code == EXIT_CODE:
        return "stopped by a signal"
    return "no results.json" if exit_code == 0 else f"exit code {exit_code}"
