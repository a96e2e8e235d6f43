"""What `uniperceiver info` tells: of a model, or of what recipes can name."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uniperceiver.data.formats import FORMATS
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.prompts import is_tuned
from uniperceiver.model.sizes import SIZES
from uniperceiver.serving.card import described
from uniperceiver.serving.predictor import UniPerceiver
from uniperceiver.serving.saved import SavedModel
from uniperceiver.tasks.catalogue import CATALOGUE

_SHOWN_ABOVE = ("moe", "merged", "prompts")


def model_info(path: Path) -> dict[str, Any]:
    """Size, architecture and tasks of a run's model or of a saved model."""
    model = UniPerceiver.from_pretrained(path)
    arch, origin = model.saved.arch, model.saved.origin
    parameters = sum(parameter.numel() for parameter in model.model.parameters())
    words = model.model.tokenizer.words.words.numel()
    return {
        "model": str(path),
        "trained": model.saved.trained,
        **({} if origin is None else {"converted from": dataclasses.asdict(origin)}),
        "parameters": parameters,
        "of which vocabulary": words,
        "experts": _experts(arch),
        **_tuned(model.saved),
        "architecture": {name: value for name, value in dataclasses.asdict(arch).items() if name not in _SHOWN_ABOVE},
        "tasks": {
            name: {
                "inputs": list(trained.task.inputs),
                "candidates": trained.task.candidates,
                **(
                    {"proposals": "boxes and masks" if trained.task.masks else "boxes"}
                    if trained.task.answer.reads_objects
                    else {}
                ),
                "labels": [texts[0] for texts in trained.task.labels],
                "size": trained.preprocess.size,
                "frames": trained.preprocess.frames,
                **_heard(trained.preprocess),
            }
            for name, trained in model.saved.tasks.items()
        },
    }


def _heard(preprocess: Preprocess) -> dict[str, Any]:
    """What of a sound a task hears; nothing of tasks that do not."""
    if preprocess.sound is None:
        return {}
    return {"seconds": preprocess.seconds, "hop in milliseconds": preprocess.sound.step(preprocess.hop)}


def _tuned(saved: SavedModel) -> dict[str, Any]:
    """What prompt tuning added, and the model beside which the tuned parameters lie; nothing of other models."""
    if saved.arch.prompts is None:
        return {}
    count = sum(parameter.numel() for name, parameter in saved.model.named_parameters() if is_tuned(name))
    facts: dict[str, Any] = {"prompts": described(saved.arch.prompts), "parameters": count}
    return {"tuned": facts if saved.base is None else {**facts, "beside the model": str(saved.base.folder)}}


def _experts(arch: Architecture) -> dict[str, Any] | str:
    """What chooses the experts and where they are; of a merged model, what they became."""
    moe, merged = arch.moe, arch.merged
    if moe is None:
        return "none: a dense model"
    facts = {
        "condition": moe.condition,
        "attribute layout": moe.layout,
        "experts": moe.experts,
        "k": moe.k,
        "level": moe.level,
        "attention layers": list(moe.attention_layers),
        "ffn layers": list(moe.ffn_layers),
    }
    if merged is None:
        return {**facts, "merged": False}
    return {**facts, "merged": True, "rows": merged.rows, "codes": len(merged.codes), "merged for": list(merged.tasks)}


def library_info() -> dict[str, Any]:
    """The task kinds, data formats and model sizes that a recipe can name."""
    return {
        "task kinds": {
            name: f"{' + '.join(task.inputs)} -> {task.candidates} (read at {task.read_at})"
            for name, task in CATALOGUE.items()
        },
        "data formats": sorted(FORMATS),
        "model sizes": {
            name: f"width {size.width}, {size.layers} layers, {size.heads} heads, patch {size.patch}"
            for name, size in SIZES.items()
        },
    }


def as_text(facts: Mapping[str, Any], indent: str = "") -> list[str]:
    """Lines for people."""
    lines: list[str] = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{name}:", *as_text(value, indent + "  ")]
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            is_count = isinstance(shown, int) and not isinstance(shown, bool)
            lines.append(f"{indent}{name}: {shown:,}" if is_count else f"{indent}{name}: {shown}")
    return lines
