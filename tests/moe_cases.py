"""What tests of experts share: settings of every routing, and padded inputs of every kind for a tiny model."""

from dataclasses import replace
from typing import Any

import torch

from benchmarks.parts import changed, flat, sequences_of
from tests.tiny import tiny_batch, tiny_model
from uniperceiver.model.model import Generalist
from uniperceiver.moe.settings import MoE
from uniperceiver.records import Sequences
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.candidates import rows_of
from uniperceiver.tasks.task import Task

BY_ROW = ("modality", "task", "attribute", "task_specific")
BY_VALUES = ("token", "context", "expert_choice")
IN_CAPTIONS = (*BY_ROW, "token", "context")
ROUTINGS = (*BY_ROW, *BY_VALUES)
KINDS = ("video_classification", "masked_language_modelling", "image_captioning", "vqa")
TASKS = 3  # of the run, as far as routing knows

VQA = Task(
    name="vqa", inputs=("image", "text"), candidates="labels", temperature="downstream", labels=(("yes",), ("no",))
)


def moe_of(
    condition: str,
    *,
    where: str = "both",
    gates: Any = 1,
    layers: tuple[int, ...] = (0, 1),
    experts: int = 4,
    k: int = 2,
    **more: Any,
) -> MoE:
    """Settings of a routing; `task_specific` has an expert for each task."""
    if condition == "task_specific":
        experts, k = TASKS, 1
    return MoE(
        condition=condition,
        experts=experts,
        k=k,
        attention_layers=() if where == "ffn" else layers,
        ffn_layers=() if where == "attention" else layers,
        attention_gates=gates,
        ffn_gates=gates,
        renormalise=k > 1,
        tasks=TASKS,
        **more,
    )


def moe_model(condition: str, seed: int = 0, *, arch: dict[str, Any] | None = None, **settings: Any) -> Generalist:
    """A tiny model with experts; `arch` are other fields of its architecture."""
    return tiny_model(seed, moe=moe_of(condition, **settings), **(arch or {}))


def inputs_of(name: str, task: int = 1) -> Sequences:
    """Three sequences of that kind of task; texts are padded, one of them by more than half."""
    if name == "vqa":
        return _question(task)
    inputs = tiny_batch(name).inputs
    inputs = replace(inputs, facts=replace(inputs.facts, task=task))
    text = inputs.text
    if text is None:
        return inputs
    valid_BN = torch.ones_like(text.values, dtype=torch.bool) if text.valid_BN is None else text.valid_BN.clone()
    half = text.values.shape[1] // (2 if text.order_BN is not None else 1)  # words, then as many queries
    for start in range(0, text.values.shape[1], half):
        valid_BN[0, start + max(1, half * 2 // 5) : start + half] = False
    return replace(inputs, parts=(*inputs.media, replace(text, valid_BN=valid_BN)))


def _question(task: int) -> Sequences:
    valid_BN = torch.ones(3, 7, dtype=torch.bool)
    valid_BN[0, 3:] = valid_BN[2, 5:] = False
    return sequences_of(
        facts=VQA.facts("input", task),
        pixels_BFCHW=torch.randn(3, 1, 3, 32, 32, generator=torch_stream(1, "pixels")),
        ids_BN=torch.randint(0, 300, (3, 7), generator=torch_stream(2, "words")),
        valid_BN=valid_BN,
    )


def padded(inputs: Sequences, more: int, token: int = 7) -> Sequences:
    """The same sequences with `more` places of padding behind every text (and behind its queries)."""
    assert flat(inputs).ids_BN is not None
    values = {
        "ids_BN": (flat(inputs).ids_BN, token),
        "valid_BN": (flat(inputs).valid_BN, False),
        "position_BN": (flat(inputs).position_BN, 0),
        "order_BN": (flat(inputs).order_BN, 1),
        "query_BN": (flat(inputs).query_BN, False),
    }
    if flat(inputs).valid_BN is None:
        values["valid_BN"] = (torch.ones_like(flat(inputs).ids_BN, dtype=torch.bool), False)
    longer = {
        name: None if value is None else torch.nn.functional.pad(value, (0, more), value=fill)
        for name, (value, fill) in values.items()
    }
    return changed(inputs, **longer)


def some(inputs: Sequences, rows: list[int]) -> Sequences:
    """Some of the sequences."""
    return rows_of(inputs, torch.tensor(rows))
