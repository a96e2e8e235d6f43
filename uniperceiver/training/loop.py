"""The run: steps, log lines, evaluations and checkpoints, from wherever it was stopped."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch

from uniperceiver.atomic import folder_to_fill, in_use, only_one, remove
from uniperceiver.config import Recipe
from uniperceiver.data.loader import load
from uniperceiver.data.mix import BatchMaker, Mixture, Plan
from uniperceiver.data.tasks import TaskData
from uniperceiver.devices import machine_facts, refuse_without_gradients
from uniperceiver.errors import UserError
from uniperceiver.optimisation.adamw import learning_rate
from uniperceiver.records import Batch
from uniperceiver.training import checkpoint
from uniperceiver.training.data_facts import changes_of_data, data_facts
from uniperceiver.training.experts import CollapseAlarm, ExpertFigures, collapse_warning, gate_loads, move_biases
from uniperceiver.training.faults import count_broken, refuse_weights, report_skip
from uniperceiver.training.log import TRACKERS, RunLog, Tracker
from uniperceiver.training.objective import TrainingObjective
from uniperceiver.training.state import pack, unpack
from uniperceiver.training.step import StepReport, TrainState, train_step
from uniperceiver.training.stop import Stopped, StopRequest, stop_on_signals
from uniperceiver.training.window import Window

_SHOWN = 10  # tasks of the first line
_BUSY = "{}: another process is training in this folder; wait for it, or use --out"


class GradientCallback(Protocol):
    """What looks at the gradients of training, without changing them."""

    def after_backward(self, task: str, factor: float) -> None:
        """Called when the gradients of a batch of this task were computed, times a factor."""

    def after_step(self, step: int, log: RunLog) -> None:
        """Called when a step is done."""


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """What the run does beside training, given by the caller."""

    evaluate: Callable[[TrainState, StopRequest, RunLog], tuple[float, Mapping[str, Any]]]  # score, lower is better
    export: Callable[[TrainState], None]  # writes the run's `model` folder
    begin: Callable[[], None]  # writes what the run is, when nothing is left that could refuse it
    gradients: GradientCallback | None = None


@dataclass
class Run:
    """One training run in its folder."""

    folder: Path
    recipe: Recipe
    mixture: Mixture
    objective: TrainingObjective
    state: TrainState
    callbacks: Callbacks
    notes: tuple[str, ...] = ()  # for the log, at the start of training
    watched_k: int | None = None  # experts of a token, where gates are trained: they may collapse
    tokenizer: str = ""  # fingerprint of what the weights read and write
    tasks: tuple[TaskData, ...] = ()  # whose data checkpoints describe, so that a run does not go on with others
    trackers: Sequence[Tracker] = ()  # beside those that the recipe names
    code: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of the Python files that it needs, by name
    quiet: bool = False
    _saved: tuple[int, int] = (-1, -1)  # the step, and the evaluated step, of the newest checkpoint

    def train(self) -> None:
        """Train to the last step, from the newest whole checkpoint if there is one.

        Raises:
            Stopped: a signal came; everything is saved.
            UserError: too many broken samples, or five steps in a row without an update; a checkpoint that cannot be
                used, weights that are not finite, gradients switched off, a disk that takes nothing: then nothing was
                written.
        """
        refuse_without_gradients()
        with ExitStack() as stack:
            try:
                stack.enter_context(folder_to_fill(self.folder))
                alone = stack.enter_context(only_one(self.folder))
            except OSError as error:
                raise UserError(f"{self.folder}: cannot be written ({error.strerror}); use another --out") from error
            if not alone:
                raise UserError(_BUSY.format(self.folder))
            self._train()

    def _train(self) -> None:
        state, recipe = self.state, self.recipe
        notes = [*self.notes, *self._resume()]
        refuse_weights(state.model, f"{self.folder}: step {state.step}")
        self.callbacks.begin()
        if state.step:
            self.callbacks.export(state)  # in case the run was killed between its checkpoint and its `model` folder
        log = RunLog(
            self.folder,
            first_step=state.step,
            steps=recipe.steps,
            tensorboard=recipe.log.tensorboard,
            trackers=[*self.trackers, *(TRACKERS[name](self.folder) for name in recipe.log.trackers)],
            quiet=self.quiet,
        )
        try:
            if not self.quiet:
                log.say(_introduction(self))
            for note in notes:
                log.say(note)
                log.line(state.step, "note", {"text": note})
            if state.step < recipe.steps:
                facts = machine_facts(next(state.model.parameters()).device)
                log.line(state.step, "machine", facts | {"precision": _type_of(self)})
            with stop_on_signals() as stop:
                try:
                    self._steps(log, stop)
                except Stopped:  # between steps, where the state is whole
                    self._save_once()
                    raise
            stop.check()  # a signal during the last save
        finally:
            log.close()

    def _steps(self, log: RunLog, stop: StopRequest) -> None:
        """Steps up to the last, with all that comes between them."""
        state, recipe = self.state, self.recipe
        keys = self.mixture.endless(state.step, state.consumed)
        made = load(BatchMaker(self.mixture), keys, recipe.data.workers)
        window = Window(self.objective)
        figures = ExpertFigures(recipe.log.every, recipe.steps)
        alarm = None if self.watched_k is None else CollapseAlarm(self.watched_k)
        while True:
            self._evaluate_and_save(log, stop)
            if state.step >= recipe.steps:
                self._say_best(log)
                return
            work = self._next_work(made, log, stop)
            report = self._step(work)
            window.add(report, work)
            log.moved(state.step)
            if self.callbacks.gradients is not None:
                self.callbacks.gradients.after_step(state.step, log)
            if report.skipped:
                report_skip(report.skipped, (batch for _, batch in work), state, log)
            else:
                figures.add(state.step, report.decisions)
                self._report_collapse(alarm, report, log)
            if state.step % recipe.log.every == 0 or state.step == recipe.steps:
                self._log(log, window, figures)

    def _evaluate_and_save(self, log: RunLog, stop: StopRequest) -> None:
        """Between steps: stop where a signal has come, evaluate and save where it is due."""
        state, recipe = self.state, self.recipe
        last, every = state.step >= recipe.steps, recipe.steps_between_evaluations
        due = state.step > 0 and (last or state.step % recipe.checkpoint.every == 0)
        stop.check()
        if every and state.step > 0 and (last or state.step % every == 0) and state.evaluated != state.step:
            score, values = self.callbacks.evaluate(state, stop, log)
            log.line(state.step, "evaluate", {"score": score, **values})
            state.evaluated = state.step
            if score == score and (self._best is None or score < self._best["score"]):  # not NaN
                state.best, due = {"step": state.step, "score": score}, True
                if recipe.checkpoint.best != "score":
                    state.best["by"] = recipe.checkpoint.best
        if due:
            self._save_once()

    @property
    def _best(self) -> dict[str, Any] | None:
        """The best evaluation by what counts now; a run that goes on may have been told something else."""
        best = self.state.best
        return best if best is not None and best.get("by", "score") == self.recipe.checkpoint.best else None

    def _say_best(self, log: RunLog) -> None:
        """Say where the last model is not the best."""
        best = self._best
        if best is None or best["step"] == self.state.step:
            return
        text = (
            f"the best checkpoint by {self.recipe.checkpoint.best} is that of step {best['step']}, not the last, which "
            f'is in {self.folder / "model"}; to use it: --step best, or load({str(self.folder)!r}, step="best")'
        )
        log.say(text, warning=True)
        log.line(self.state.step, "note", {"text": text, "best": best["step"]})

    def _step(self, work: list[tuple[Plan, Batch]]) -> StepReport:
        """An update by the batches of the next step, which counts as made by all that it was planned to see."""
        state, config = self.state, self.recipe.optimiser
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate(state.step, self.recipe.steps, config) * group.get("lr_factor", 1.0)
        plans = self.mixture.plans(state.step, state.consumed)  # of the step that `train_step` counts
        report = train_step(
            state,
            work,
            self.objective,
            config,
            share=1.0 / self.mixture.batches_per_step,
            after_backward=None if self.callbacks.gradients is None else self.callbacks.gradients.after_backward,
        )
        if report.skipped is None:
            move_biases(state.model, report.decisions, self.recipe.moe.balance.bias_rate)
        for plan in plans:
            state.consumed[plan.index] += plan.count
        return report

    def _next_work(self, made: Iterator[Any], log: RunLog, stop: StopRequest) -> list[tuple[Plan, Batch]]:
        """The batches of the next step; broken samples are counted, named, and bounded."""
        with stop.waiting():
            step = [next(made) for _ in range(self.mixture.batches_per_step)]
        for plan, _, left_out in step:
            size = len(self.mixture.sets[plan.index].source)
            for broken in left_out:
                count_broken(broken, size, self.recipe.data.max_broken, self.state, log)
        return [(plan, batch) for plan, batch, _ in step if batch is not None]

    def _report_collapse(self, alarm: CollapseAlarm | None, report: StepReport, log: RunLog) -> None:
        """Log gates that have collapsed, or recovered, by the step."""
        if alarm is None:
            return
        step = self.state.step
        collapsed, recovered = alarm.add(gate_loads(report.decisions))
        if collapsed:
            text = collapse_warning(step, collapsed)
            log.say(text, warning=True)
            log.line(step, "warning", {"text": text, "gates": [gate.figures() for gate in collapsed]})
        if recovered:
            text = f"step {step}: routing has recovered at {', '.join(map(str, recovered))}"
            log.say(text)
            log.line(step, "note", {"text": text})

    def _log(self, log: RunLog, window: Window, figures: ExpertFigures) -> None:
        """Write what was collected since the last log line."""
        state = self.state
        values = window.take() | {"lr": state.optimiser.param_groups[0]["lr"], "skipped": state.skipped}
        values |= {f"{task}/weight": weight for task, weight in state.method.shown().items()}
        log.line(state.step, "train", values)
        groups, scalars = figures.take()
        if groups:
            log.line(state.step, "experts", groups, scalars)
        losses = [value for name, value in values.items() if name.endswith("/loss")]
        mean = sum(losses) / max(len(losses), 1)
        log.progress(state.step, f"loss {mean:.3f} · {values['samples_per_second']:.0f} samples/s")

    def _resume(self) -> list[str]:
        """Load the newest whole checkpoint, if any. Notes for the log."""
        data = self._data  # looked at before the first step: a stop must not wait for data that do not come
        newest = checkpoint.newest_valid(self.folder / "checkpoints")
        if newest.path is None:
            self.state.consumed = [0] * len(self.mixture.sets)
            return []
        tensors, counters = checkpoint.read(newest.path)
        if counters.get("tokenizer", self.tokenizer) != self.tokenizer:
            raise UserError(
                f"{self.folder / 'tokenizer.json'}: does not belong to the weights of {newest.path}; restore the one "
                f"that was saved with them, {self.folder / 'model' / 'tokenizer.json'}"
            )
        unpack(self.state, tensors, counters, self._tasks(), newest.path)
        changes = changes_of_data(counters.get("data", {}), data, str(newest.path))
        code = counters.get("code", {})
        self._saved = (self.state.step, self.state.evaluated)
        return [
            *(f"not used: {line}" for line in newest.skipped),
            *(f"the data have changed: {line}" for line in changes),
            *(
                f"{name} is not as it was when the run was saved: what it computes may be something else from here on"
                for name, sha256 in self.code.items()
                if code.get(name, sha256) != sha256
            ),
            f"going on after step {self.state.step}{_other_steps(self.state.step, counters.get('steps'), self.recipe)}",
        ]

    @cached_property
    def _data(self) -> dict[str, Any]:
        return data_facts(self.tasks)

    def _tasks(self) -> list[str]:
        """The names of the tasks, in the order of `TrainState.consumed`."""
        return [training_set.task.name for training_set in self.mixture.sets]

    def _save_once(self) -> None:
        if self._saved != (self.state.step, self.state.evaluated):
            self.save()

    def save(self) -> None:
        """Write a checkpoint and the run's `model` folder, then remove checkpoints that are no longer kept."""
        tensors, counters = pack(self.state, self._tasks())
        counters |= {"tokenizer": self.tokenizer, "data": self._data, "steps": self.recipe.steps}
        counters |= {"code": self.code} if self.code else {}
        root = self.folder / "checkpoints"
        checkpoint.write(checkpoint.step_folder(root, self.state.step), tensors, counters)
        for path in checkpoint.list_checkpoints(root):
            if checkpoint.step_of(path) > self.state.step:
                remove(path)  # it was damaged at the start; it must not take the place of a good one
        best = self.state.best and checkpoint.step_folder(root, self.state.best["step"])
        checkpoint.rotate(root, self.recipe.checkpoint.keep, best or None)
        self.callbacks.export(self.state)
        self._saved = (self.state.step, self.state.evaluated)


def refuse_second(folder: Path) -> None:
    """Refuse a folder in which a run is being trained, before anything in it is changed.

    Raises:
        UserError: it is.
    """
    if in_use(folder):
        raise UserError(_BUSY.format(folder))


def _introduction(run: Run) -> str:
    """What is trained on what, where, and where it is written down."""
    sets = [f"{training.task.name} ({len(training.source):,} samples)" for training in run.mixture.sets]
    more = f" and {len(sets) - _SHOWN} more tasks" if len(sets) > _SHOWN else ""
    sizes = [(value.numel(), value.requires_grad) for value in run.state.model.parameters()]
    count, trained = sum(size for size, _ in sizes), sum(size for size, is_trained in sizes if is_trained)
    part = f"{trained / 1e6:.2f} M of {count / 1e6:.2f} M" if trained < count else f"{count / 1e6:.2f} M"
    device = next(run.state.model.parameters()).device
    where = f"{device}, {torch.get_num_threads()} threads" if device.type == "cpu" else str(device)
    where += f", {_type_of(run)}"
    return (
        f"training {', '.join(sets[:_SHOWN])}{more}: {part} parameters on {where}, {run.recipe.steps:,} steps; "
        f"log: {run.folder / 'log.jsonl'}"
    )


def _type_of(run: Run) -> str:
    """What the model computes in, such as bfloat16."""
    return str(run.objective.autocast or torch.float32).removeprefix("torch.")


def _other_steps(step: int, before: int | None, recipe: Recipe) -> str:
    """What it means that the recipe had `before` steps when the checkpoint was written; empty where nothing."""
    if step > recipe.steps:
        return f", more than the recipe's {recipe.steps:,}: nothing is trained, and figures are of that step"
    was, rate = (learning_rate(step, steps, recipe.optimiser) for steps in (before or recipe.steps, recipe.steps))
    if step == recipe.steps or was == rate:
        return ""
    return (
        f"; steps was {before:,} and is {recipe.steps:,}, so the learning rate jumps from {was:.2g} to {rate:.2g}, and "
        "the run is not one that had so many steps from the start"
    )
