"""Renews tests/golden/original_small/: `python -m tests.golden.make_original`.

Tiny models with random weights, and what the plain restatement of the original (tests/golden/original/) computes with
them in float64: the layout of the original's own recordings, so that `python -m benchmarks.golden` reads it.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.golden.original.batches import CLASSES, Batches, Made
from tests.golden.original.made import random_state, shrink
from tests.golden.original.recording import computed, trained
from tests.golden.original.steps import decay_of, run
from tests.golden.original.weights import Original, original_of

GOLDEN = Path(__file__).with_name("original_small")
SOURCE = "the plain restatement in tests/golden/original; to renew: python -m tests.golden.make_original"
LARGEST_GRADIENT = 256  # entries of gradients that are kept whole; of others their norm and sum

_SIZE = {
    **{"layers": 2, "dim": 16, "heads": 2, "ffn": 24, "image": 8, "patch": 4, "vocab": 64, "moe": False},
    **{"moe_location": None, "moe_type": None, "experts": 1, "top_k": 1, "ffn_share_gate": False, "max_frames": 4},
    **{"layer_scale": True, "position_max_len": 16, "old_checkpoint_spe": True, "add_type_embed": False},
}
EXPERTS = {"moe": True, "moe_type": "FFN,SA", "experts": 4, "top_k": 2}
_SPECIALS = ("<|startoftext|>", "<|endoftext|>", "<|mask|>", "<|gen|>", "<|spe|>")

# The temperature of each task, its loss, and its weight; a weight that is no float counts as 1 in the original.
_TASKS: dict[str, tuple[str, str, float]] = {
    "imagenet22k": ("img_cls", "SoftTargetCrossEntropy", 1.0),
    "imagenet": ("img_cls", "LabelSmoothingCrossEntropy", 1.0),
    "K700_retrieve": ("video_cls", "LabelSmoothingCrossEntropy", 0.1),
    "bookswiki_pretrain": ("text_mlm", "CrossEntropy", 0.5),
    "mscoco_caption": ("caption", "LabelSmoothingCrossEntropy", 2),
    "mscoco_retrieve": ("retrieve", "LabelSmoothingCrossEntropy", 0.5),
    "RTE": ("text_mlm", "LabelSmoothingCrossEntropy", 1.0),
    "vqa": ("downstream", "CrossEntropy", 0.1),
}
_BEAMS = {"beam_size": 3, "max_seq_len": 4, "len_penalty": 1.0}
_GREEDY = {"beam_size": 1, "max_seq_len": 4, "len_penalty": 0.0}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A model and the cases that are computed with it."""

    cases: Mapping[str, Callable[[Batches], Made]]
    size: Mapping[str, Any] = field(default_factory=dict)  # where it differs from `_SIZE`
    prompts: Mapping[str, int] = field(default_factory=dict)
    shrunk: float = 1.0  # factor on all that enters the embedding's norm


_FOLDERS = {
    "dense": Plan(
        cases={
            "image_caption_greedy": lambda make: make.to_caption("mscoco_caption"),
            "image_classification_train": lambda make: make.classification("imagenet22k", "ImageNet22k", soft=True),
            "image_retrieval_train": lambda make: make.retrieval("mscoco_retrieve", (4, 2, 3)),
            "text_classification_RTE_eval": lambda make: make.text_classification("RTE", "RTE-target"),
            "vqa_train": lambda make: make.questions("vqa", "VQA_Answers"),
        },
    ),
    "moe_all": Plan(
        size={**EXPERTS, "moe_location": "all", "add_type_embed": True},
        cases={
            "image_caption_teacher_forced_train": lambda make: make.captions("mscoco_caption"),
            "image_retrieval_eval": lambda make: make.retrieval("mscoco_retrieve", (4, 2, 3, 5, 2, 3)),
            "text_mlm_train": lambda make: make.masked("bookswiki_pretrain"),
            "video_caption_beam3_eos_lenpen": lambda make: make.to_caption("mscoco_caption", frames=2),
            "video_classification_train": lambda make: make.classification("K700_retrieve", "Kinetics700", 2, 3),
        },
    ),
    "prompt_dense_label": Plan(
        prompts={"deep": 3, "labels": CLASSES},
        shrunk=3e-3,
        cases={"image_classification_train": lambda make: make.classification("imagenet", "ImageNet1k")},
    ),
    "prompt_moe_fc_notshare": Plan(
        size={**EXPERTS, "moe_location": "odd", "ffn_share_gate": True},
        prompts={"deep": 3, "targets": 2, "classes": CLASSES},
        cases={
            "image_caption_beam3": lambda make: make.to_caption("mscoco_caption"),
            "image_classification_train": lambda make: make.classification("imagenet", "ImageNet1k"),
        },
    ),
}
_STEPS = (
    lambda make: make.classification("imagenet22k", "ImageNet22k", soft=True),
    lambda make: make.masked("bookswiki_pretrain"),
    lambda make: make.retrieval("mscoco_retrieve", (4, 2, 3)),
    lambda make: make.captions("mscoco_caption"),
)


def told_of(size: Mapping[str, Any], prompts: Mapping[str, int]) -> dict[str, Any]:
    """model.json without the list of tensors."""
    size = {**_SIZE, **size}
    losses = {
        name: {"NAMES": [loss, "Accuracy"], "LOSS_WEIGHT": weight, "REDUCTION": "mean", "LABELSMOOTHING": 0.1}
        for name, (_, loss, weight) in _TASKS.items()
    }
    temperatures = {name: f"logit_scale_{temperature}" for name, (temperature, *_) in _TASKS.items()}
    special = {name: size["vocab"] - len(_SPECIALS) + index for index, name in enumerate(_SPECIALS)}
    return {
        **{"source": SOURCE, "prompts": dict(prompts), "tasks": list(_TASKS), "temp_name": temperatures},
        **{"losses": losses, "model": size, "special_tokens": special},
    }


def make_folder(folder: Path, plan: Plan, seed: int) -> None:
    """A model and its cases."""
    folder.mkdir(parents=True, exist_ok=True)
    stream = torch.Generator().manual_seed(seed)
    told = told_of(plan.size, plan.prompts)
    state = random_state(told["model"], plan.prompts, stream)
    shrink(state, plan.shrunk)
    told["state_dict"] = {each: list(tensor.shape) for each, tensor in state.items()}
    _write(folder / "state_dict", state)
    _write_json(folder / "model.json", told)
    make = Batches(told, stream)
    for case, batch in plan.cases.items():
        tensors, info = batch(make)
        record(folder, case, told, state, tensors, info)


def record(
    folder: Path, name: str, told: Mapping[str, Any], state: Mapping[str, Tensor], tensors: Any, info: Any
) -> None:
    """Compute a case and write it down."""
    is_train = name.endswith("_train")
    model = original_of(state, told, trained=is_train)
    if "caption" in name and not is_train:
        info |= _generation(name, told)
        words = min(told["special_tokens"].values())
        ids = partial(_ids, model, told, info, tensors)
        info["eos_token_id"] = _end(name, words, model.end, ids)
    info = {"case": name, "mode": "train" if is_train else "eval", **info}
    if not is_train:
        found = computed(model, told, info, tensors)
    else:
        found, terms, gradients = trained(model, told, info, tensors)
        info["losses"] = {**{key: float(each.detach()) for key, each in terms.items()}, "null_loss": 0.0}
        info["grad_l2norm_and_sum"] = {
            key: None if each is None else [float(each.norm()), float(each.sum())] for key, each in gradients.items()
        }
        kept = {key: each for key, each in gradients.items() if each is not None and each.numel() <= LARGEST_GRADIENT}
        found |= {f"grad.{key}": each for key, each in kept.items()}
    _write(folder / name, {**tensors, **found})
    _write_json(folder / f"{name}.json", info)


def _generation(name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    settings = _GREEDY if name.endswith("greedy") else _BEAMS
    special = told["special_tokens"]
    return {**settings, "eos_token_id": special["<|endoftext|>"], "spe_token_id": special["<|spe|>"]}


def _ids(
    model: Original, told: Mapping[str, Any], info: Mapping[str, Any], tensors: Any, end: int, penalty: float
) -> Tensor:
    return computed(model, told, {**info, "eos_token_id": end, "len_penalty": penalty}, tensors)["ids"]


def _end(name: str, words: int, end: int, write: Callable[[int, float], Tensor]) -> int:
    """The end token; of a case that says so a word instead, chosen so that ends and the length penalty matter."""
    if "_eos" not in name:
        return end
    for word in range(1, words):
        ids = write(word, _BEAMS["len_penalty"])
        ended = (ids[:, 1:-1] == word).any(dim=1)
        if bool(ended.any()) and not bool(ended.all()) and not torch.equal(ids, write(word, 0.0)):
            return word
    raise ValueError(f"{name}: no word ends one of the texts; take another seed")


def make_steps(root: Path, seed: int) -> None:
    """Four training steps of four tasks; initial weights are copies."""
    folder, stream = root / "train_steps", torch.Generator().manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    told = told_of({**EXPERTS, "experts": 3, "moe_location": "all", "ffn_share_gate": True}, {})
    state = random_state(told["model"], {}, stream)
    model = original_of(state, told, trained=True)
    decays = {name: decay_of(name, tensor, 0.2) for name, tensor in state.items()}
    settings = {"betas": [0.9, 0.95], "eps": 1e-6, "clip_norm": 0.1, "base_lr": 5e-4, "warmup": 2, "max_iter": 8}
    settings |= {"min_lr": 1e-6, "weight_decay": decays}
    make = Batches(told, stream)
    batches: list[Made] = [each(make) for each in _STEPS]
    for _, info in batches:
        info["mode"] = "train"
    steps = run(model, told, settings, [(info, tensors) for tensors, info in batches])
    rows = [
        {"lr": step.lr, "losses": step.losses, "grad_norm_before_clip": step.norm, "batch": info["batch"]}
        for step, (_, info) in zip(steps, batches, strict=True)
    ]
    _write_json(folder / "train_steps.json", {"case": "train_steps", **told, "steps": rows, "optimizer": settings})
    tensors = {f"init.{name}": tensor for name, tensor in state.items()}
    tensors |= {f"final.{name}": tensor for name, tensor in model.state.items()}
    for step, (batch, _) in enumerate(batches):
        tensors |= {f"step{step}.{name}": each for name, each in batch.items() if "Vocab_Word" not in name}
    _write(folder / "train_steps", tensors)


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Copies, as float32 where they are fractions."""
    kept = {name: each.detach().float() if each.is_floating_point() else each for name, each in tensors.items()}
    save_file({name: each.contiguous().clone() for name, each in kept.items()}, path.with_suffix(".safetensors"))


def _write_json(path: Path, contents: Any) -> None:
    path.write_text(json.dumps(contents, ensure_ascii=False) + "\n", encoding="utf-8")


def make_all(root: Path) -> None:
    """Every folder."""
    for seed, (name, plan) in enumerate(_FOLDERS.items()):
        make_folder(root / name, plan, seed)
    make_steps(root, len(_FOLDERS))
    readme = f"Recorded numbers of tiny models with random weights. Source: {SOURCE}.\n"
    (root / "README.md").write_text(readme, encoding="utf-8")


if __name__ == "__main__":
    make_all(Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN)
