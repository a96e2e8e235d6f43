"""The run: steps, log lines, evaluations and checkpoints, from wherever it was stopped."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from uniperceiver.config import Recipe
from uniperceiver.data.loader import load
from uniperceiver.data.mix import BatchMaker, Mixture, Plan
from uniperceiver.data.tasks import TaskData
from uniperceiver.devices import machine_facts, refuse_without_gradients
from uniperceiver.errors import UserError
from uniperceiver.optimisation.adamw import learning_rate
from uniperceiver.parallel.lost import missed
from uniperceiver.parallel.world import World
from uniperceiver.records import Batch
from uniperceiver.training.beginning import go_on, introduction, newest_of_all, say_best, take_folder
from uniperceiver.training.data_facts import data_facts
from uniperceiver.training.experts import CollapseAlarm, ExpertFigures, gate_loads
from uniperceiver.training.faults import count_broken, follow_gates, refuse_drift, refuse_weights, report_skip
from uniperceiver.training.log import TRACKERS, RunLog, SilentLog, Tracker
from uniperceiver.training.objective import TrainingObjective
from uniperceiver.training.processes.next_step import next_step, tasks_of_process
from uniperceiver.training.processes.sharded import ShardedTraining
from uniperceiver.training.processes.team import Team, team_of
from uniperceiver.training.saving import export_whole, save, whole_state
from uniperceiver.training.step import StepReport, TrainState, train_step
from uniperceiver.training.stop import Stopped, StopRequest, stop_on_signals
from uniperceiver.training.turns.figures import TurnFigures
from uniperceiver.training.turns.graphs import GraphLog
from uniperceiver.training.window import Window, progress_note


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
    computes_in: str = "float32"  # the type of the model's forward pass
    world: World = field(default_factory=World)  # the processes that train together
    sharded: ShardedTraining | None = None  # the parts of the weights, where processes share a copy
    _team: Team = field(default_factory=Team)
    _turns: TurnFigures | None = None
    _saved: tuple[int, int] = (-1, -1)  # the step, and the evaluated step, of the newest checkpoint

    def train(self) -> None:
        """Train to the last step, from the newest whole checkpoint if there is one.

        Raises:
            Stopped: a signal came; everything is saved.
            ProcessLost: another process of the run is gone.
            UserError: too many broken samples, or five steps in a row without an update; a checkpoint that cannot be
                used, weights that are not finite, gradients switched off, a disk that takes nothing: then nothing was
                written.
        """
        refuse_without_gradients()
        with ExitStack() as stack, missed(self.world, self._doing):
            with self.world.together(UserError):
                if self.world.is_first:
                    take_folder(self.folder, stack)
            self._train()

    def _train(self) -> None:
        state, recipe = self.state, self.recipe
        notes = [*self.notes, *self._resume()]
        with self.world.together(UserError):
            log = self._begun()
        try:
            if state.step:  # in case it was killed between its checkpoint and its `model` folder
                export_whole(state, self.callbacks.export, self.world, self.sharded)
            if not self.quiet:
                log.say(introduction(state, recipe, self.mixture, self.folder, self.world.size, self.computes_in))
            for note in notes:
                log.say(note)
                log.line(state.step, "note", {"text": note})
            if state.step < recipe.steps:
                facts = machine_facts(next(state.model.parameters()).device)
                log.line(state.step, "machine", facts | {"precision": self.computes_in})
            with stop_on_signals() as stop:
                try:
                    self._steps(log, stop)
                except Stopped:  # between steps, where the state is whole
                    self._save_once()
                    raise
            self._check(stop)  # a signal during the last save
        finally:
            log.close()

    def _begun(self) -> RunLog:
        """Write what the run is, and open its log; for all processes one of them does."""
        if not self.world.is_first:
            return SilentLog()
        self.callbacks.begin()
        return RunLog(
            self.folder,
            first_step=self.state.step,
            steps=self.recipe.steps,
            tensorboard=self.recipe.log.tensorboard,
            trackers=[*self.trackers, *(TRACKERS[name](self.folder) for name in self.recipe.log.trackers)],
            quiet=self.quiet,
        )

    def _steps(self, log: RunLog, stop: StopRequest) -> None:
        """Steps up to the last, with all that comes between them."""
        state, recipe, world = self.state, self.recipe, self.world
        keys = self.mixture.endless(state.step, state.consumed, world.rank, world.size)
        made = load(BatchMaker(self.mixture), keys, recipe.data.workers)
        team = self._team = team_of(world, self.objective, state.method, recipe, self.sharded)
        turns = self._turns = TurnFigures(self.mixture, world)
        window = Window(self.objective, world, asks=self.sharded is None, turns=turns)
        figures = ExpertFigures(recipe.log.every, recipe.steps, world)
        graphs = GraphLog(self.mixture, compiled=bool(recipe.optimiser.compile))
        alarm = None if self.watched_k is None else CollapseAlarm(self.watched_k)
        while True:
            self._evaluate_and_save(log, stop)
            if state.step >= recipe.steps:
                say_best(self._best, state.step, recipe.checkpoint.best, self.folder, log)
                return
            work = self._next_work(made, log, stop)
            report, seconds = graphs.watch(self._step, state.step + 1, work, log)
            window.add(report, work, seconds)
            log.moved(state.step)
            if self.callbacks.gradients is not None:
                self.callbacks.gradients.after_step(state.step, log)
            if report.skipped:
                seen = team.seen(work)
                with world.together(UserError):
                    report_skip(report.skipped, seen, state, log)
            else:
                figures.add(state.step, report.decisions, team.tasks(work))
                if alarm is not None or recipe.moe.balance.bias_rate:
                    loads = team.loads(gate_loads(report.decisions))
                    follow_gates(state, loads, recipe.moe.balance.bias_rate, alarm, log)
            if state.step % recipe.log.every == 0 or state.step == recipe.steps:
                self._log(log, window, figures)

    def _evaluate_and_save(self, log: RunLog, stop: StopRequest) -> None:
        """Between steps: stop where a signal has come, evaluate and save where it is due."""
        state, recipe = self.state, self.recipe
        last, every = state.step >= recipe.steps, recipe.steps_between_evaluations
        due = state.step > 0 and (last or state.step % recipe.checkpoint.every == 0)
        measured = bool(every) and state.step > 0 and (last or state.step % every == 0)
        if self.world.size == 1 or due or measured:  # else all processes ask when they have their batches
            self._check(stop)
        if measured and state.evaluated != state.step:
            with whole_state(state, self.sharded) as whole:
                score, values = self.callbacks.evaluate(whole, stop, log)
            log.line(state.step, "evaluate", {"score": score, **values})
            if self._turns is not None:
                log.line(state.step, "signatures", self._turns.signatures(state.step - 1))
            state.evaluated = state.step
            if score == score and (self._best is None or score < self._best["score"]):  # not NaN
                state.best, due = {"step": state.step, "score": score}, True
                if recipe.checkpoint.best != "score":
                    state.best["by"] = recipe.checkpoint.best
        if due:
            self._save_once()

    def _check(self, stop: StopRequest) -> None:
        """Stop, all processes together, if a signal has come to any of them."""
        stop.requested = bool(self.world.largest([stop.requested])[0])
        stop.check()

    def _doing(self, rank: int) -> str:
        """What a process is doing: its tasks of the step that is being made."""
        plans = self.mixture.plans(self.state.step, self.state.consumed or [0] * len(self.mixture.sets))
        tasks = tasks_of_process(self.mixture, plans, rank, self.world.size)
        return f"in step {self.state.step} with {', '.join(tasks)}"

    @property
    def _best(self) -> dict[str, Any] | None:
        """The best evaluation by what counts now; a run that goes on may have been told something else."""
        best = self.state.best
        return best if best is not None and best.get("by", "score") == self.recipe.checkpoint.best else None

    def _step(self, work: list[tuple[Plan, Batch]]) -> StepReport:
        """An update by the batches of the next step, which counts as made by all that it was planned to see."""
        state, config = self.state, self.recipe.optimiser
        plans = self.mixture.plans(state.step, state.consumed)  # of the step that `train_step` counts
        rate = learning_rate(state.step, self.recipe.steps, config)
        of_task = self.mixture.sets[plans[0].index].lr if plans else 1.0  # 1, where a step has several tasks
        for group in state.optimiser.param_groups:
            group["lr"] = rate * group.get("lr_factor", 1.0) * of_task
        report = train_step(
            state,
            work,
            self.objective,
            config,
            share=1.0 / self.mixture.batches_per_step,
            after_backward=None if self.callbacks.gradients is None else self.callbacks.gradients.after_backward,
            team=self._team,
        )
        for plan in plans:
            state.consumed[plan.index] += plan.count
        return report

    def _next_work(self, made: Iterator[Any], log: RunLog, stop: StopRequest) -> list[tuple[Plan, Batch]]:
        """The batches of the next step; broken samples are counted, named, and bounded."""
        work, broken_of_plans = next_step(
            made, self.mixture, lambda: self.mixture.plans(self.state.step, self.state.consumed), self._team, stop
        )
        if broken_of_plans:
            with self.world.together(UserError):
                for plan, left_out in broken_of_plans:
                    size = len(self.mixture.sets[plan.index].source)
                    for broken in left_out:
                        count_broken(broken, size, self.recipe.data.max_broken, self.state, log)
        return work

    def _log(self, log: RunLog, window: Window, figures: ExpertFigures) -> None:
        """Write what was collected since the last log line."""
        state = self.state
        values = window.take() | {"lr": state.optimiser.param_groups[0]["lr"], "skipped": state.skipped}
        values |= {f"{task}/weight": weight for task, weight in state.method.shown().items()}
        log.line(state.step, "train", values)
        groups, scalars = figures.take()
        if groups:
            log.line(state.step, "experts", groups, scalars)
        log.progress(state.step, progress_note(values))

    def _resume(self) -> list[str]:
        """Load the newest whole checkpoint, if any. Notes for the log."""
        with self.world.together(UserError):
            # Looked at before the first step: a stop must not wait for data that do not come.
            data = self._data
        newest, state = newest_of_all(self.folder, self.world), self.state
        with self.world.together(UserError):
            notes = go_on(
                state,
                self.recipe,
                newest,
                tasks=self._tasks(),
                folder=self.folder,
                data=data,
                tokenizer=self.tokenizer,
                code=self.code,
            )
            refuse_weights(state.model, f"{self.folder}: step {state.step}")
        if newest.path is not None:
            self._saved = (state.step, state.evaluated)
        return notes

    @cached_property
    def _data(self) -> dict[str, Any]:
        return data_facts(self.tasks) if self.world.is_first else {}

    def _tasks(self) -> list[str]:
        """The names of the tasks, in the order of `TrainState.consumed`."""
        return [training_set.task.name for training_set in self.mixture.sets]

    def _save_once(self) -> None:
        if self._saved != (self.state.step, self.state.evaluated):
            refuse_drift(self.state.model, self.world, 1 if self.sharded is None else self.sharded.size)
            self.save()
            self._saved = (self.state.step, self.state.evaluated)

    def save(self) -> None:
        """Write a checkpoint and the run's `model` folder, then remove checkpoints that are no longer kept.

        All processes call it.
        """
        facts = {"tokenizer": self.tokenizer, "data": self._data, "steps": self.recipe.steps}
        save(
            self.folder / "checkpoints",
            self.state,
            self.recipe.checkpoint,
            tasks=self._tasks(),
            facts=facts | ({"code": self.code} if self.code else {}),
            export=self.callbacks.export,
            world=self.world,
            sharded=self.sharded,
        )
