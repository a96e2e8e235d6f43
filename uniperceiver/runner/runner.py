"""Runner: an exported model, which answers as `UniPerceiver` does, with arrays instead of tensors.

Shape suffixes: N items, K candidates, D width.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from uniperceiver.data.media.pixels import Preprocess
from uniperceiver.errors import UserError, nearest
from uniperceiver.records.exported import ExportedTask
from uniperceiver.runner.folder import ExportedFolder
from uniperceiver.runner.questions import AnsweringGraphs
from uniperceiver.serving.values import shown
from uniperceiver.tokenizers import bpe
from uniperceiver.tokenizers.bpe import TextEncoder


class Runner(AnsweringGraphs):
    """An exported model with its tokenizer, preprocessing and tasks, which runs without torch.

    Its methods are those of `UniPerceiver`, and their answers are equal to 1e-4; `task=` is the name of a task. Several
    threads may ask at the same time.

    Args:
        path: a folder that `uniperceiver export` wrote.
        device: where it computes: "cpu".
        batch: items encoded together.
        int8: use the graphs with weights of 8 bits, where there are some.
        threads: that compute an answer; None: as many as onnxruntime thinks best.

    Raises:
        UserError: no such folder, or a damaged file.

    Example:
        >>> from uniperceiver.runner import Runner  # doctest: +SKIP
        >>> Runner("export").classify("picture.jpg", labels=["a cat", "a dog"]).shape  # doctest: +SKIP
        (1, 2)
    """

    def __init__(
        self, path: str | Path, device: str = "cpu", batch: int = 64, *, int8: bool = False, threads: int | None = None
    ) -> None:
        if str(device) != "cpu":
            raise UserError(f"device {device!r}: an export runs on the CPU; leave it out")
        self.device, self.batch, self.home = "cpu", batch, Path(path)
        folder = ExportedFolder(Path(path), int8=int8, threads=threads)
        super().__init__(folder, bpe.load(Path(path) / "encoder.json"), batch)

    @classmethod
    def from_pretrained(cls, path: str | Path, device: str = "cpu") -> "Runner":
        """The model exported into a folder."""
        return cls(path, device)

    @property
    def tasks(self) -> Mapping[str, ExportedTask]:
        """The tasks that the export answers, by name."""
        return MappingProxyType(self._exported.tasks)

    @property
    def questions(self) -> Mapping[str, str | None]:
        """The method that asks each task: "classify", "caption", "rank" or "detect"; None: it is only encoded."""
        return MappingProxyType({name: task.question for name, task in self._exported.tasks.items()})

    @property
    def preprocess(self) -> Mapping[str, Preprocess]:
        """What is made of the inputs of each task: sizes, frames, statistics, and the longest text."""
        return MappingProxyType({name: Preprocess(**task.view) for name, task in self._exported.tasks.items()})

    @property
    def width(self) -> int:
        """Numbers in a representation."""
        return self._exported.width

    @property
    def longest_text(self) -> int:
        """Tokens of the longest text that the graphs read."""
        return self._exported.max_text

    @property
    def tokenizer(self) -> TextEncoder:
        """The text encoder: `encode(text)` gives ids, `decode(ids)` a text."""
        return self.codec

    def labels(self, task: str) -> list[str]:
        """What the classes of a task are called, in the order of the scores of `classify`.

        Raises:
            UserError: the model has no such task, or the task has no labels.
        """
        if not isinstance(task, str) or task not in self._exported.tasks:
            raise UserError(f"labels: no task {shown(task)}; {nearest(shown(task), self._exported.tasks)}")
        if not (labels := self._exported.tasks[task].labels):
            raise UserError(f"labels: task {task!r} has none")
        return [texts[0] for texts in labels]

    def __repr__(self) -> str:
        return (
            f"Runner({self.home}; width {self._exported.width}, tasks: {', '.join(self._exported.tasks) or '(none)'})"
        )
