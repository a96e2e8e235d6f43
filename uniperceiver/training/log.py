"""What is written down while training: log.jsonl, TensorBoard, and the console's progress line."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from uniperceiver.atomic import write_text
from uniperceiver.errors import UserError
from uniperceiver.strict import to_json
from uniperceiver.waiting import BETWEEN, MOMENT, shows_bars

NO_TENSORBOARD = "log.tensorboard needs the package tensorboard: pip install tensorboard, or set log.tensorboard=false"


class Scalars(Protocol):
    """TensorBoard's writer, as far as it is used here."""

    def add_scalar(self, tag: str, value: float, step: int) -> None: ...
    def add_image(self, tag: str, image: np.ndarray, step: int, *, dataformats: str) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class Tracker(Protocol):
    """What follows a run beside its log: a service, a database, a program of yours.

    Example:
        >>> class Losses:
        ...     def line(self, record):
        ...         if record["event"] == "train":
        ...             print(record["step"], record["grad_norm"])
        ...     def close(self):
        ...         pass
    """

    def line(self, record: Mapping[str, Any]) -> None:
        """Take a line of log.jsonl: `step`, `event` ("train", "evaluate", "note", ...), `time`, and the values by name.

        Called in the process that trains, between steps, so it should be quick. After an error it is not called again.
        """

    def close(self) -> None:
        """Take notice that the training has ended, or has stopped for now."""


TRACKERS: dict[str, Callable[[Path], Tracker]] = {}
"""What makes a tracker for the run in a folder, by the name that a recipe's `log.trackers` has; yours to fill."""


class RunLog:
    """The log of a run: one JSON object per line, the same numbers in TensorBoard, a progress bar on the console.

    Args:
        tensorboard: True, False, or "auto" for where it is installed.
        first_step: lines of later steps, from a run that was cut off, are removed.
        trackers: what is told every line, too.
        quiet: no progress, as a bar or as lines; what is said is still printed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        first_step: int,
        steps: int,
        tensorboard: bool | str,
        trackers: Sequence[Tracker] = (),
        quiet: bool = False,
    ) -> None:
        self._trackers = list(trackers)
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "log.jsonl"
        _cut_after(self._path, first_step)
        self._file = self._path.open("a", encoding="utf-8")
        with_events = find_spec("tensorboard") is not None if tensorboard == "auto" else tensorboard
        self._scalars = _tensorboard(folder / "tensorboard", first_step) if with_events else None
        console = Console(stderr=True)
        with_bar = shows_bars(console) and not quiet
        self._steps, self._with_lines = steps, not (quiet or with_bar)
        self._next = time.monotonic() + MOMENT  # when a line is due that says that something is still done
        self._progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not with_bar,
            refresh_per_second=2,
        )
        self._bar = self._progress.add_task("training", total=steps, completed=first_step, note="")
        self._progress.start()
        if tensorboard == "auto" and not with_events:
            self.say("no TensorBoard events: pip install tensorboard to have them; log.jsonl has the same numbers")

    def line(
        self, step: int, event: str, values: Mapping[str, Any], scalars: Mapping[str, float] | None = None
    ) -> None:
        """One line: step, event ("train", "experts", "evaluate", "warning", "note", ...), time and the values.

        Args:
            scalars: what TensorBoard gets instead of the numbers among the values.

        Raises:
            UserError: the disk takes no more.
        """
        record = {"step": step, "event": event, "time": round(time.time(), 3), **values}
        try:
            self._file.write(to_json(record) + "\n")
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"{self._path}: cannot be written ({error.strerror}); free or repair the disk, then continue from the "
                "newest checkpoint"
            ) from error
        self._tell(lambda tracker: tracker.line(record))
        if self._scalars is not None:
            for name, value in (values if scalars is None else scalars).items():
                if isinstance(value, int | float):
                    self._scalars.add_scalar(f"{event}/{name}", value, step)

    def show(self, step: int, scalars: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
        """Numbers and pictures, image_HWC in uint8, for TensorBoard alone, under the tags that they are given."""
        if self._scalars is not None:
            _show(self._scalars, step, scalars, images)

    def progress(self, step: int, note: str, *, stage: str = "training") -> None:
        """Move the bar; where there is none, a line for every note of training, and now and then for other stages."""
        self._progress.update(self._bar, completed=step, note=note, description=stage)
        training = stage == "training"
        if self._with_lines and note and (training or time.monotonic() >= self._next):
            self.say(f"step {step:,} of {self._steps:,}: {note if training else f'{stage}, {note}'}")
            self._next = time.monotonic() + BETWEEN
        if training and not note:
            self._next = time.monotonic() + MOMENT

    def moved(self, step: int) -> None:
        """Show that a step was made, if nothing else was shown for a while."""
        self._progress.update(self._bar, completed=step)
        if self._with_lines and time.monotonic() >= self._next:
            self.say(f"step {step:,} of {self._steps:,}")
            self._next = time.monotonic() + BETWEEN

    def say(self, text: str, *, warning: bool = False) -> None:
        """A line on the console above the bar; square brackets, as file names have them, are no markup."""
        self._progress.console.print(
            text, style="yellow" if warning else None, highlight=False, markup=False, soft_wrap=True
        )

    def _tell(self, what: Callable[[Tracker], None]) -> None:
        """Tell every tracker; one that fails stops no training, and is told nothing more."""
        for tracker in list(self._trackers):
            try:
                what(tracker)
            except Exception as error:
                self._trackers.remove(tracker)
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                self.say(f"tracker {type(tracker).__name__} is left out from here on: {reason}", warning=True)

    def close(self) -> None:
        """Flush and close everything."""
        self._tell(lambda tracker: tracker.close())
        self._progress.stop()
        with suppress(OSError):  # every line was flushed: what fails here has failed before
            self._file.close()
        if self._scalars is not None:
            self._scalars.close()


class SilentLog(RunLog):
    """The log of a process that does not speak: another one writes and shows for all."""

    def __init__(self) -> None:
        """Open nothing."""

    def line(
        self, step: int, event: str, values: Mapping[str, Any], scalars: Mapping[str, float] | None = None
    ) -> None:
        """Write nothing."""

    def show(self, step: int, scalars: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
        """Show nothing."""

    def progress(self, step: int, note: str, *, stage: str = "training") -> None:
        """Show nothing."""

    def moved(self, step: int) -> None:
        """Show nothing."""

    def say(self, text: str, *, warning: bool = False) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Nothing is open."""


def show_in_tensorboard(run: Path, step: int, scalars: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
    """Add numbers and pictures, image_HWC in uint8, to the events of a run, where TensorBoard is installed."""
    if find_spec("tensorboard") is None or not (run / "tensorboard").is_dir():
        return
    writer = _tensorboard(run / "tensorboard", 0)
    _show(writer, step, scalars, images)
    writer.close()


def _show(writer: Scalars, step: int, scalars: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
    for tag, value in scalars.items():
        writer.add_scalar(tag, value, step)
    for tag, image_HWC in images.items():
        writer.add_image(tag, image_HWC, step, dataformats="HWC")


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log.jsonl; a last line that was cut off is left out."""
    path, lines = folder / "log.jsonl", []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def _cut_after(path: Path, step: int) -> None:
    """Remove the lines of steps after `step`: they will be made again."""
    if not path.is_file():
        return
    kept = [line for line in read_log(path.parent) if line["step"] <= step]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


def _tensorboard(folder: Path, first_step: int) -> Scalars:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError(NO_TENSORBOARD) from None
    return SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None)
