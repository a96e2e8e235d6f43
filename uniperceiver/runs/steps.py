"""RUN + STEP -> MODEL: a run's model with the weights of one of its checkpoints, by number or the best."""

import dataclasses
import re
from pathlib import Path
from typing import Literal

from uniperceiver.errors import UserError
from uniperceiver.model.weights import first_misfit
from uniperceiver.serving import saved as saved_files
from uniperceiver.serving.locate import model_folder
from uniperceiver.serving.saved import SavedModel
from uniperceiver.training import checkpoint

Step = int | Literal["best"]


def read_step(text: str | None) -> Step | None:
    """Read a step as it is written on the command line, where it may be left out.

    Raises:
        UserError: neither a number nor `best`.
    """
    if text is None:
        return None
    if text == "best":
        return "best"
    if not text.isdecimal():
        raise UserError(f"--step: {text!r} is neither a number of steps nor best")
    return int(text)


def load_saved(path: str | Path, step: Step | None = None, *, trust: bool = False) -> SavedModel:
    """Load a saved model, or that of a run, with the weights after some step; their moving average, if there is one.

    Args:
        path: a run; without a step also a folder of a saved model, or OWNER/NAME on the hub.
        step: of a checkpoint that the run has kept; None: the weights in the run's folder `model`.
        trust: execute the Python files that lie beside the model and that it needs.

    Raises:
        UserError: there is no model or no such checkpoint, or a file of it is damaged.
    """
    if trust:
        trust_model(path)
    saved = saved_files.load(model_folder(path))
    if step is None:
        return saved
    folder = checkpoint_of(Path(path), step)
    tensors, counters = checkpoint.read(folder)
    if counters.get("tokenizer", saved.codec.fingerprint()) != saved.codec.fingerprint():
        raise UserError(f"{folder}: was trained with another vocabulary than the model beside it; restore that one")
    weights = tensors["model"] | tensors.get("average", {})
    if first_misfit(saved.model.state_dict(), weights) is not None:
        raise UserError(f"{folder}: does not fit the model in {Path(path) / 'model'}; restore the one saved with it")
    saved.model.load_state_dict(weights)
    saved.model.weights_changed()
    return dataclasses.replace(saved, trained=re.sub(r"^\d+", str(counters["step"]), saved.trained))


def trust_model(path: str | Path) -> None:
    """Execute the Python files that lie beside a model, so that it can be loaded in this process.

    Raises:
        UserError: there is no model, or a file of it is damaged or raises an error.
    """
    saved_files.trust(model_folder(path))


def checkpoint_of(run: Path, step: Step) -> Path:
    """Find the checkpoint of a step.

    Raises:
        UserError: the run has none of that step, or was never evaluated, so that none is the best.
    """
    root = run / "checkpoints"
    number = best_step(run) if step == "best" else step
    folder = checkpoint.step_folder(root, number)
    if folder not in (kept := checkpoint.list_checkpoints(root)):
        there = ", ".join(str(checkpoint.step_of(path)) for path in kept)
        mend = "train with checkpoint.keep=100 to keep more of them" if there else "give the folder of a run"
        raise UserError(f"--step: {run} has no checkpoint of step {number}, only of {there or 'none'}; {mend}")
    return folder


def best_step(run: Path) -> int:
    """The step whose evaluation was the best so far (`checkpoint.best` says by what).

    Raises:
        UserError: there was no evaluation, or the folder is no run with checkpoints.
    """
    newest = checkpoint.newest_valid(run / "checkpoints").path
    best = None if newest is None else checkpoint.read_state(newest)["best"]
    if best is None:
        raise UserError(
            f"{run}: has no best checkpoint: it is no run, was not evaluated while it was trained "
            "(evaluation.every), or every loss was nan; leave the step out, or give the number of a checkpoint"
        )
    return int(best["step"])
