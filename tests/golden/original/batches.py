"""Random batches as the original's collator hands them over: tensors by name, and their description.

Shape suffixes: B samples, N tokens, K candidates.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# What each sequence is, as the released table has it.
_ATTRIBUTES = {
    "classification": ["10011000"],
    "mlm": ["01010100"],
    "caption": ["11011000", "11010101"],
    "retrieval": ["10011000"],
    "text_classification": ["01010100"],
    "caption targets": ["10010110"],
    "class names": ["10010110"],
    "words": ["11010110"],
}
CLASSES = 5

Made = tuple[dict[str, Tensor], dict[str, Any]]


class Batches:
    """Batches for one model; whatever is random comes from its stream."""

    def __init__(self, told: Mapping[str, Any], stream: torch.Generator) -> None:
        self.size, self.stream = told["model"], stream
        special = told["special_tokens"]
        self.end, self.answer = special["<|endoftext|>"], special["<|spe|>"]
        self.words = min(special.values())  # ids below are ordinary words

    def pictures(self, batch: int, frames: int = 0) -> Tensor:
        """Images, or clips of that many frames."""
        shape = (batch, *([frames] if frames else []), 3, self.size["image"], self.size["image"])
        return torch.randn(shape, generator=self.stream)

    def texts(self, lengths: Sequence[int]) -> list[list[int]]:
        """Texts of so many tokens, of which the last is the end."""
        return [[*self.ids(length - 1), self.end] for length in lengths]

    def ids(self, count: int) -> list[int]:
        """Ordinary words."""
        return torch.randint(1, self.words, (count,), generator=self.stream).tolist()

    def put(self, tensors: dict[str, Tensor], key: str, rows: Sequence[Sequence[int]], attribute: str = "") -> None:
        """Padded ids, their mask where there is padding, and their attributes in a model with experts."""
        longest = max(map(len, rows))
        tensors[f"{key}.data"] = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
        if any(len(row) < longest for row in rows):
            mask = [[0] * len(row) + [1] * (longest - len(row)) for row in rows]
            tensors[f"{key}.invalid_mask"] = torch.tensor(mask, dtype=torch.uint8)
        self.mark(tensors, key, attribute)

    def mark(self, tensors: dict[str, Tensor], key: str, attribute: str) -> None:
        """The attribute rows of a part, in a model with experts."""
        if self.size["moe"] and attribute:
            bits = [[float(bit) for bit in row] for row in _ATTRIBUTES[attribute]]
            tensors[f"{key}.attribute"] = torch.tensor(bits)

    def classification(self, task: str, names: str, batch: int = 3, frames: int = 0, soft: bool = False) -> Made:
        """Images or clips, and the names of classes."""
        tensors = {"batch.input_sample_list.0.data": self.pictures(batch, frames)}
        self.mark(tensors, "batch.input_sample_list.0", "classification")
        self.put(tensors, f"batch.shared_target_sets.{names}", self.texts([3, 2, 4, 2, 3]), "class names")
        draw = torch.rand(batch, CLASSES, generator=self.stream)
        tensors["batch.target_idx_list.0"] = draw / draw.sum(dim=1, keepdim=True) if soft else draw.argmax(dim=1)
        kind = "video" if frames else "image"
        return tensors, describe(f"{kind}_classification", task, batch, [kind], names)

    def text_classification(self, task: str, names: str) -> Made:
        """Texts with the answer's place among them, of different lengths."""
        tensors: dict[str, Tensor] = {}
        rows = [[*self.ids(before), self.answer, *self.ids(after), self.end] for before, after in ((4, 2), (2, 1))]
        self.put(tensors, "batch.input_sample_list.0", rows, "text_classification")
        self.put(tensors, f"batch.shared_target_sets.{names}", self.texts([2, 3]), "words")
        tensors["batch.target_idx_list.0"] = torch.tensor([1, 0])
        samples = [{"spe_index": row.index(self.answer)} for row in rows]
        return tensors, describe("text_classification", task, 2, ["text"], names, samples)

    def questions(self, task: str, names: str) -> Made:
        """Images with questions, and answers of which several are a little right."""
        tensors = {"batch.input_sample_list.0.data": self.pictures(2)}
        rows = [[*self.ids(length), self.answer, self.end] for length in (5, 3)]
        self.put(tensors, "batch.input_sample_list.1", rows)
        self.put(tensors, f"batch.shared_target_sets.{names}", self.texts([2, 3, 2, 4]))
        tensors["batch.target_idx_list.0"] = torch.tensor([[0.0, 1.0, 0.3, 0.0], [0.6, 0.0, 0.0, 0.0]])
        samples = [{"spe_index": row.index(self.answer)} for row in rows]
        return tensors, describe("vqa", task, 2, ["image", "text"], names, samples)

    def masked(self, task: str) -> Made:
        """Texts of which some words are asked for: hidden, replaced, or as they were; one text is padded."""
        tensors: dict[str, Tensor] = {}
        rows, label_BN = self.texts([8, 6]), torch.full((2, 8), -1)
        for row, place, shown in ((0, 1, self.answer), (0, 2, self.answer), (0, 6, 5), (1, 3, rows[1][3])):
            label_BN[row, place], rows[row][place] = rows[row][place], shown
        self.put(tensors, "batch.input_sample_list.0", rows, "mlm")
        self._vocabulary(tensors)
        tensors["batch.target_idx_list.0"] = label_BN
        return tensors, describe("text_mlm", task, 2, ["text"], "Vocab_Word", [{}, {}])

    def captions(self, task: str) -> Made:
        """Images and captions for training: words, then as many queries, each half padded."""
        lengths, longest = (5, 3, 4), 5
        tensors = {"batch.input_sample_list.0.data": self.pictures(3)}
        texts = self.texts(lengths)
        self.mark(tensors, "batch.input_sample_list.0", "caption")
        halves = [[*text, *[0] * (longest - len(text)), *[self.answer] * len(text)] for text in texts]
        rows = [row + [0] * (2 * longest - len(row)) for row in halves]
        self.put(tensors, "batch.input_sample_list.1", rows, "caption")
        padded = torch.tensor([[place % longest >= length for place in range(2 * longest)] for length in lengths])
        tensors["batch.input_sample_list.1.invalid_mask"] = padded.to(torch.uint8)
        self._vocabulary(tensors)
        labels = [[*text, *[-1] * (longest - len(text))] for text in texts]
        tensors["batch.target_idx_list.0"] = torch.tensor(labels)
        samples = [{"text_spe_cat": True}] * 3
        return tensors, describe("image_caption", task, 3, ["image", "text"], "Vocab_Word", samples)

    def to_caption(self, task: str, frames: int = 0) -> Made:
        """Images or clips that are to be captioned."""
        tensors = {"batch.input_sample_list.0.data": self.pictures(3, frames)}
        self.mark(tensors, "batch.input_sample_list.0", "caption")
        self._vocabulary(tensors)
        kind = "video" if frames else "image"
        return tensors, describe(f"{kind}_caption", task, 3, [kind])

    def retrieval(self, task: str, lengths: Sequence[int]) -> Made:
        """Three images, and captions of those lengths."""
        tensors = {"batch.input_sample_list.0.data": self.pictures(3)}
        self.mark(tensors, "batch.input_sample_list.0", "retrieval")
        self.put(tensors, "batch.target_sample_list.0", self.texts(lengths), "caption targets")
        info = describe("image_retrieval", task, 3, ["image"])
        info["batch"]["targets"] = [{"modality": "text", "data_type": "target"}]
        return tensors, info

    def _vocabulary(self, tensors: dict[str, Tensor]) -> None:
        rows = [[word, self.end] for word in range(self.size["vocab"])]
        self.put(tensors, "batch.shared_target_sets.Vocab_Word", rows, "words")


def describe(
    kind: str, task: str, batch: int, modalities: Sequence[str], names: str = "", samples: Sequence[Any] = ()
) -> dict[str, Any]:
    """What a recording says of a batch; `samples` belong to the last part."""
    plain = [{"id": index, "path": ""} for index in range(batch)]
    parts = [{"modality": each, "data_type": "input", "sample_info": plain} for each in modalities]
    if samples:
        parts[-1]["sample_info"] = list(samples)
    task_info = {"task_type": kind, "dataset_name": "x", "batch_size": batch, "task_name": task}
    targets = {"target_set_list": [names] if names else [], "inputs": parts, "targets": []}
    return {"batch": {"task_info": task_info, **targets}}
