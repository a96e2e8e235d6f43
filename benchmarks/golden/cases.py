"""Recorded cases of the original release as our records, which training, evaluation and serving use."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.parts import flat, sequences_of
from uniperceiver.errors import UserError
from uniperceiver.model.build import build
from uniperceiver.model.official.convert import Converted, convert
from uniperceiver.model.official.variant import Choices
from uniperceiver.records import Batch, Readout, Sequences, Side
from uniperceiver.tasks.candidates import Candidates, vocabulary_sequences
from uniperceiver.tasks.task import TEMPERATURES, Task


@dataclass(frozen=True, kw_only=True)
class Case:
    """One recorded case: tensors and description of a run of the original code."""

    folder: Path
    name: str
    tensors: dict[str, Tensor]
    info: dict[str, Any]
    model: dict[str, Any]  # of the folder: sizes, special tokens, losses

    @property
    def end(self) -> int:
        """Id of the end token, which one case replaces."""
        return self.info.get("eos_token_id", self.model["special_tokens"]["<|endoftext|>"])

    @property
    def answer(self) -> int:
        """Id of <SPE>."""
        return self.model["special_tokens"]["<|spe|>"]


def model_folders(root: Path) -> list[Path]:
    """Folders with a model and cases: those in `root`, or `root` itself."""
    return [root] if (root / "model.json").is_file() else sorted(path.parent for path in root.glob("*/model.json"))


def case_names(folder: Path) -> list[str]:
    """The cases of a model folder; each has tensors and a description."""
    files = [*folder.glob("*.safetensors"), *folder.glob("*.json")]
    return sorted({path.stem for path in files} - {"state_dict", "model"})


def load_case(folder: Path, name: str) -> Case:
    """A case of a model folder."""
    return Case(
        folder=folder,
        name=name,
        tensors=load_file(folder / f"{name}.safetensors"),
        info=json.loads((folder / f"{name}.json").read_text()),
        model=json.loads((folder / "model.json").read_text()),
    )


def given_of(size: dict[str, Any]) -> Choices:
    """What the names of this reduced size do not tell."""
    return Choices(
        heads=size["heads"],
        layers=size["layers"],
        positions="table",
        ffn_gates="shared" if size["ffn_share_gate"] or not size["moe"] else "own",
        type_vector="add" if size["add_type_embed"] else "folded",
    )


def convert_folder(folder: Path) -> Converted:
    """The folder's state dict, converted as `uniperceiver convert` does it.

    Raises:
        UserError: it cannot be converted, or is of a kind that the release does not hold.
    """
    info = json.loads((folder / "model.json").read_text())
    size, special = info["model"], info["special_tokens"]
    if not size.get("old_checkpoint_spe", True):
        raise UserError(f"{folder}: begins sequences with the word 'spe', which no published model does")
    converted = convert(
        folder / "state_dict.safetensors",
        given_of(size),
        end=special["<|endoftext|>"],
        answer=special["<|spe|>"],
        temperatures=TEMPERATURES,
    )
    return converted if size["top_k"] == 2 or not size["moe"] else _choosing(converted, size["top_k"])


def _choosing(converted: Converted, k: int) -> Converted:
    """The model with another number of chosen experts, which no name tells; with one its probability is the weight."""
    assert converted.arch.moe is not None
    arch = replace(converted.arch, moe=replace(converted.arch.moe, k=k, renormalise=k > 1))
    model = build(arch, TEMPERATURES)
    model.load_state_dict(converted.model.state_dict())
    return replace(converted, model=model, arch=arch)


def task_of(case: Case) -> Task:
    """The declaration that fits the original's task type.

    Raises:
        ValueError: there is none.
    """
    info = case.info["batch"]["task_info"]
    kind = info["task_type"]
    temperature = case.info.get("logit_scale_name") or case.model["temp_name"][info["task_name"]]
    visual = "video" if kind.startswith("video") else "image"
    read_at = "masked" if "spe_index" in _samples(case)[0] else "summary"
    by_kind: dict[str, dict[str, Any]] = {
        "classification": {"inputs": (visual,), "candidates": "labels"},
        "retrieval": {"inputs": (visual,), "candidates": "in_batch"},
        "caption": {"inputs": (visual, "text"), "candidates": "vocabulary", "read_at": "next"},
        "mlm": {"inputs": ("text",), "candidates": "vocabulary", "read_at": "masked"},
        "vqa": {"inputs": (visual, "text"), "candidates": "labels", "read_at": read_at},
        "text_classification": {"inputs": ("text",), "candidates": "labels", "read_at": read_at},
    }
    fields = by_kind.get(kind) or by_kind.get(kind.split("_")[-1])
    if fields is None:
        raise ValueError(f"task type {kind!r} is unknown")
    return Task(name=kind, temperature=temperature.removeprefix("logit_scale_"), **fields)


def _samples(case: Case) -> list[dict[str, Any]]:
    """What is recorded of each sample's last part."""
    samples: list[dict[str, Any]] = case.info["batch"]["inputs"][-1]["sample_info"]
    return samples


def _valid(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else ~mask.bool()


def _sequences(case: Case, task: Task, key: str, side: Side) -> Sequences:
    ids = case.tensors[f"{key}.data"]
    return sequences_of(
        facts=task.facts(side), ids_BN=ids.long(), valid_BN=_valid(case.tensors.get(f"{key}.invalid_mask"))
    )


def batch_of(case: Case) -> tuple[Task, Batch, Candidates]:
    """Our records for what the original collator handed to the original model."""
    task, tensors = task_of(case), case.tensors
    first = tensors["batch.input_sample_list.0.data"]
    pixels = first if first.ndim == 5 else first[:, None] if first.ndim == 4 else None
    text_key = "batch.input_sample_list.0" if pixels is None else "batch.input_sample_list.1"
    fields: dict[str, Any] = {"facts": task.facts("input"), "pixels_BFCHW": pixels}
    if f"{text_key}.data" in tensors:
        fields["ids_BN"] = tensors[f"{text_key}.data"].long()
        fields["valid_BN"] = _valid(tensors.get(f"{text_key}.invalid_mask"))
    if task.read_at == "next" and "ids_BN" in fields:
        half = torch.arange(fields["ids_BN"].shape[1] // 2).expand(len(first), -1)
        fields |= {
            "position_BN": torch.cat([half, half], dim=1),
            "order_BN": torch.cat([half, half], dim=1) + 1,
            "query_BN": torch.cat([torch.zeros_like(half), torch.ones_like(half)], dim=1).bool(),
        }
    inputs = sequences_of(**fields)
    readout = _readout(case, task, inputs)
    candidates = _candidates(case, task)
    in_batch = candidates.sequences if task.candidates == "in_batch" else None
    ids = tuple(map(str, range(len(first))))
    return task, Batch(task=task.name, ids=ids, inputs=inputs, readout=readout, candidates=in_batch), candidates


def _readout(case: Case, task: Task, inputs: Sequences) -> Readout:
    rows = torch.arange(inputs.size)
    target = case.tensors.get("batch.target_idx_list.0")
    nothing = torch.full_like(rows, -1)
    if task.candidates == "in_batch":
        return Readout(
            segment=0, row_R=rows, position_R=rows * 0, target_R=nothing, soft_RK=torch.eye(len(rows)), summary=True
        )
    segment = int(flat(inputs).pixels_BFCHW is not None and flat(inputs).ids_BN is not None)
    soft = target if target is not None and target.is_floating_point() else None
    if task.candidates == "labels":
        hard = target if soft is None and target is not None else nothing
        if task.read_at == "summary":
            return Readout(segment=0, row_R=rows, position_R=rows * 0, target_R=hard, soft_RK=soft, summary=True)
        place = torch.tensor([sample["spe_index"] for sample in _samples(case)]) + (segment == 0)
        return Readout(segment=segment, row_R=rows, position_R=place, target_R=hard, soft_RK=soft)
    if target is None:  # generation: nothing is read here
        return Readout(segment=segment, row_R=rows[:0], position_R=rows[:0], target_R=rows[:0])
    labels = target.reshape(inputs.size, -1)
    row, place = (labels != -1).nonzero(as_tuple=True)
    start = labels.shape[1] if task.read_at == "next" else 1
    return Readout(segment=segment, row_R=row, position_R=place + start, target_R=labels[row, place])


def _candidates(case: Case, task: Task) -> Candidates:
    if task.candidates == "in_batch":
        return Candidates(sequences=_sequences(case, task, "batch.target_sample_list.0", "candidate"))
    named = [f"batch.shared_target_sets.{name}" for name in case.info["batch"]["target_set_list"]]
    named += [key.removesuffix(".data") for key in case.tensors if key.startswith("batch.shared_target_sets.")]
    key = next((key for key in named if f"{key}.data" in case.tensors), None)
    if key is None and task.candidates != "vocabulary":
        raise ValueError("no target set is recorded")
    if key is None:  # the vocabulary, not recorded again
        word_K = torch.arange(case.model["model"]["vocab"])
        ordinary = case.model["special_tokens"]["<|endoftext|>"]
        return Candidates(sequences=vocabulary_sequences(word_K, task.facts("candidate"), ordinary))
    sequences = _sequences(case, task, key, "candidate")
    return Candidates(sequences=replace(sequences, class_B=torch.arange(sequences.size)))
