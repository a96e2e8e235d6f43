"""uniperceiver: one Transformer for many perception tasks, without task heads.

    files -> data -> BATCH -> tokenizers -> TOKENS -> model -> REPRESENTATIONS -> tasks -> LIKELIHOOD -> answer
             (what samples look like)       (one encoder for all)   P(y|x) ~ exp(cos(f(x), f(y)) / tau)

Every task is the same question: which candidate is most likely, given this input?
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from uniperceiver.serving.predictor import UniPerceiver
    from uniperceiver.tasks.task import Task

__version__ = "0.1.0"
__all__ = ["Task", "UniPerceiver", "load"]

_HOMES = {"Task": "uniperceiver.tasks.task", "UniPerceiver": "uniperceiver.serving.predictor"}


def load(path: "str | Path", device: str = "cpu") -> "UniPerceiver":
    """The model of a run or of a saved model directory, ready to be asked.

    Raises:
        UserError: there is no model, or a file of it is damaged.
    """
    from uniperceiver.serving.predictor import UniPerceiver

    return UniPerceiver.from_pretrained(path, device)


def __getattr__(name: str) -> Any:
    """The public names are imported when they are used, so that `uniperceiver --help` need not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'uniperceiver' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
