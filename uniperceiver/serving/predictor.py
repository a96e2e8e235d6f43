"""UniPerceiver: a saved model, from its folder and back, which answers questions (`questions.py`)."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import torch

from uniperceiver.data.media.preprocess import Decode, Preprocess
from uniperceiver.devices import device_of
from uniperceiver.errors import UserError
from uniperceiver.serving import saved as files
from uniperceiver.serving.card import in_words
from uniperceiver.serving.locate import model_folder
from uniperceiver.serving.merge import merge
from uniperceiver.serving.questions import Answering
from uniperceiver.serving.saved import SavedModel
from uniperceiver.serving.task_choice import labels_of
from uniperceiver.tasks.task import Task
from uniperceiver.tokenizers.bpe import TextEncoder


class UniPerceiver(Answering):
    """A model with its tokenizer, preprocessing and tasks.

    Every method takes `task=`, the name of a task the model was trained on or a `Task`: its preprocessing and
    temperature are used. Without it, an anonymous task of the catalogue is made from the call; in a model that chose
    its experts by task, it is the only one of its tasks that fits.

    Representations of candidates are kept, also for questions from several threads, and made anew when this library
    loads, moves or trains weights. Whoever changes them otherwise calls `model.weights_changed()` afterwards.

    Args: those of `Encoding`.

    Example:
        >>> import numpy
        >>> from uniperceiver import UniPerceiver  # runs/tiny is the run that `uniperceiver.train` has as its example
        >>> model = UniPerceiver.from_pretrained("runs/tiny")
        >>> pictures = [numpy.zeros((32, 32, 3), dtype=numpy.uint8)] * 2
        >>> model.rank(pictures, ["a red circle", "a blue square", "a cat"]).shape
        torch.Size([2, 3])
    """

    @property
    def questions(self) -> Mapping[str, str | None]:
        """The method that asks each task: "classify", "caption", "rank" or "detect"; None: it is only encoded."""
        return MappingProxyType({name: task.answer.question for name, task in self.tasks.items()})

    @property
    def preprocess(self) -> Mapping[str, Preprocess]:
        """What is made of the inputs of each task: sizes, frames, statistics, and the longest text."""
        return MappingProxyType({name: trained.preprocess for name, trained in self.saved.tasks.items()})

    @property
    def tokenizer(self) -> TextEncoder:
        """The text encoder: `encode(text)` gives ids, `decode(ids)` a text."""
        return self.codec

    def labels(self, task: str) -> list[str]:
        """What the classes of a task are called, in the order of the scores of `classify`.

        Raises:
            UserError: the model has no such task, or the task has no labels.
        """
        return labels_of(self.saved, task)

    def to(self, device: str | torch.device) -> "UniPerceiver":
        """The same model, which computes on that device from now on.

        Raises:
            UserError: there is no such device.
        """
        self.device = device_of(str(device))
        self._engine.move(self.device)
        return self

    def __repr__(self) -> str:
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        return f"UniPerceiver({in_words(self.saved.arch, parameters, self.saved.tasks)}; on {self.device})"

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        device: str | torch.device = "cpu",
        *,
        dtype: str | torch.dtype = "float32",
        batch: int = 64,
        decode: Decode | None = None,
    ) -> "UniPerceiver":
        """The model saved in a directory, by a run (its `model` folder), or on the Hugging Face hub (OWNER/NAME).

        Args:
            dtype: what it computes in (`Encoding`).
            batch: items encoded together.
            decode: as `data.decode` of a recipe, instead of what the model was trained with.

        Raises:
            UserError: there is no model, or a file of it is damaged; no such device or type.
        """
        folder = model_folder(path)
        return cls(decoding(files.load(folder), decode), device, batch, folder, dtype)

    def save_pretrained(self, path: str | Path, *, whole: bool = False) -> None:
        """Write config.json, model.safetensors, tokenizer.json, preprocess.json and README.md into a directory.

        Args:
            whole: write all weights of a model whose prompts were tuned, instead of the tuned ones beside the place of
                the others.

        Raises:
            UserError: it could not be written, or holds other files. Another model there is replaced, and named.
        """
        saved = replace(self.saved, base=None) if whole else self.saved
        files.refuse_foreign(Path(path))
        with files.replacing(Path(path), saved, replace=True):
            files.save(Path(path), saved)

    def export(
        self,
        path: str | Path,
        *,
        to: Literal["onnx", "pt2"] = "onnx",
        tasks: Iterable[str] | None = None,
        int8: bool = False,
        opset: int = 20,
    ) -> dict[str, Any]:
        """Write graphs that answer alike without torch (`uniperceiver.runner.Runner`), checked against this model.

        Args:
            to: "onnx", or "pt2" for torch.export's own format, which is written only.
            tasks: names of the model's tasks; None: all of them.
            int8: also write graphs with weights of 8 bits, and what they cost.
            opset: of ONNX.

        Returns:
            The graphs with size and greatest difference, which task asks which of them, and what cannot be exported.

        Raises:
            UserError: the package onnx is missing, an unknown task, other files in the folder, a model that cannot be
                exported, or graphs that differ from it by more than 1e-4; nothing is left then.
        """
        from uniperceiver.serving.export.export import export  # whose imports take a while

        return export(self.saved, Path(path), to=to, tasks=tasks, int8=int8, opset=opset)

    def merge(self, tasks: str | Task | Iterable[str | Task] | None = None) -> "UniPerceiver":
        """A new model that answers these tasks alike, without experts: at the cost of a dense model.

        Args:
            tasks: names of the run's tasks, or Tasks; None: all of the run.

        Raises:
            UserError: an unknown task, or experts that cannot be merged; the line says why.
        """
        return UniPerceiver(merge(self.saved, tasks).saved, self.device, self.batch, dtype=self._engine.dtype)


def decoding(saved: SavedModel, decode: Decode | None) -> SavedModel:
    """The same model, which decodes pictures in this way; None: as it did.

    Raises:
        UserError: there is no such way.
    """
    if decode is None:
        return saved
    if decode not in get_args(Decode):
        raise UserError(f"decode {decode!r}: use {' or '.join(get_args(Decode))}")
    tasks = {
        name: replace(trained, preprocess=replace(trained.preprocess, decode=decode))
        for name, trained in saved.tasks.items()
    }
    return replace(saved, tasks=tasks)
