"""uniperceiver: one Transformer for many perception tasks, without task heads.

    files -> data -> BATCH -> tokenizers -> TOKENS -> model -> REPRESENTATIONS -> tasks -> LIKELIHOOD -> answer
             (what samples look like)       (one encoder for all)   P(y|x) ~ exp(cos(f(x), f(y)) / tau)

Every task is the same question: which candidate is most likely, given this input?

`train`, `evaluate` and `load` are all that a program needs; a `Recipe` says what is trained.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from uniperceiver.version import VERSION

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from uniperceiver.config import (
        AugmentConfig,
        BalanceConfig,
        CandidateConfig,
        CapacityConfig,
        CheckpointConfig,
        DataConfig,
        EvaluationConfig,
        InterferenceConfig,
        LateConfig,
        LogConfig,
        ModelConfig,
        MoEConfig,
        OptimiserConfig,
        ParallelConfig,
        Recipe,
        SamplingConfig,
        ShapeConfig,
        TaskBalanceConfig,
        TaskConfig,
        TuneConfig,
        read_recipe,
    )
    from uniperceiver.data.tasks import TaskData
    from uniperceiver.errors import UserError
    from uniperceiver.records.sounds import Sound
    from uniperceiver.runs.evaluate import evaluate
    from uniperceiver.runs.steps import Step
    from uniperceiver.runs.train import TrainedRun, train
    from uniperceiver.runs.tuning import tune_recipe
    from uniperceiver.serving.predictor import UniPerceiver
    from uniperceiver.tasks.task import Task
    from uniperceiver.training.log import Tracker

__version__ = VERSION
__all__ = [
    "AugmentConfig",
    "BalanceConfig",
    "CandidateConfig",
    "CapacityConfig",
    "CheckpointConfig",
    "DataConfig",
    "EvaluationConfig",
    "InterferenceConfig",
    "LateConfig",
    "LogConfig",
    "MoEConfig",
    "ModelConfig",
    "OptimiserConfig",
    "ParallelConfig",
    "Recipe",
    "SamplingConfig",
    "ShapeConfig",
    "Sound",
    "Task",
    "TaskBalanceConfig",
    "TaskConfig",
    "TaskData",
    "Tracker",
    "TrainedRun",
    "TuneConfig",
    "UniPerceiver",
    "UserError",
    "evaluate",
    "load",
    "read_recipe",
    "train",
    "tune_recipe",
]

_HOMES = {
    "Sound": "uniperceiver.records.sounds",
    "Task": "uniperceiver.tasks.task",
    "TaskData": "uniperceiver.data.tasks",
    "Tracker": "uniperceiver.training.log",
    "TrainedRun": "uniperceiver.runs.train",
    "UniPerceiver": "uniperceiver.serving.predictor",
    "UserError": "uniperceiver.errors",
    "evaluate": "uniperceiver.runs.evaluate",
    "train": "uniperceiver.runs.train",
    "tune_recipe": "uniperceiver.runs.tuning",
}


def load(
    path: "str | Path",
    device: str = "cpu",
    *,
    step: "Step | None" = None,
    trust: bool = False,
    dtype: "str | torch.dtype" = "float32",
    batch: int = 64,
    decode: 'Literal["full", "draft"] | None' = None,
) -> "UniPerceiver":
    """Load the model of a run, of a saved model directory or of the Hugging Face hub (OWNER/NAME), ready to be asked.

    Args:
        step: of a run: the weights of its checkpoint of that step, or "best": those whose evaluation was the best.
        trust: execute the Python files that lie beside the model and that it needs (docs/own_code.md).
        device: "auto" is the first accelerator, or the CPU.
        dtype: what the model computes in: "float32", "bfloat16", "float16", or "auto": bfloat16 where the device has
            instructions for it. Weights and answers are float32.
        batch: items encoded together.
        decode: "draft" reads large JPEG files at a half, a quarter or an eighth of their size (docs/data.md); None: as
            in training.

    Raises:
        UserError: there is no model or checkpoint, no such device or type, it needs code that is not trusted, or a file
            of it is damaged.

    Example:
        >>> import numpy, uniperceiver  # runs/tiny is the run that `uniperceiver.train` has as its example
        >>> model = uniperceiver.load("runs/tiny")
        >>> picture = numpy.zeros((32, 32, 3), dtype=numpy.uint8)
        >>> model.classify(picture, labels=["a red circle", "a blue square"]).shape
        torch.Size([1, 2])
    """
    from uniperceiver.serving.predictor import UniPerceiver, decoding

    if trust:
        from uniperceiver.runs.steps import trust_model

        trust_model(path)
    if step is None:
        return UniPerceiver.from_pretrained(path, device, dtype=dtype, batch=batch, decode=decode)
    from uniperceiver.runs.steps import load_saved

    return UniPerceiver(decoding(load_saved(path, step), decode), device, batch, dtype=dtype)


def __getattr__(name: str) -> Any:
    """The public names are imported when they are used, so that `uniperceiver --help` need not wait for torch."""
    if name == "figures":  # a module of its own, of which a notebook says uniperceiver.figures.run_figures(...)
        return import_module("uniperceiver.figures")
    if name not in __all__:
        raise AttributeError(f"module 'uniperceiver' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "uniperceiver.config")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "figures"})
