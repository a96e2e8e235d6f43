"""Records what short runs and a saved model compute: `python -m tests.golden.unchanged.recording` renews the numbers.

The numbers beside this file, one file for each kind of processor, are those of commit 3e42128, before the house was
redrawn. Renew them only where a change of what is computed is meant, and say so in the change log; for another kind of
processor, record them at that commit (`tests.golden.unchanged.recording` of eb4c615 runs there).
"""

import contextlib
import hashlib
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file

from tests.small_run import train
from uniperceiver import UniPerceiver, load, read_recipe
from uniperceiver.cli import main

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
NUMBERS = HERE / "numbers"
STOPPED = HERE / "stopped_run"  # a run of six steps, stopped after three
STEPS = 40

_DEMO = HERE / "demo.yaml"  # as it was then
_THREE = ROOT / "examples" / "routing" / "three_tasks.yaml"
_QUICK = ("threads=1", "device=cpu", "data.workers=0", "log.every=1", "log.tensorboard=false", "evaluation.every=0")
_SHORT = ("evaluation.limit=4", "evaluation.train_limit=4", "evaluation.max_words=4")
_FEW = ("tasks.{task}.train.items=500", "tasks.{task}.val.items=4")
RUNS: dict[str, tuple[Path, tuple[str, ...]]] = {
    "demo": (_DEMO, ()),
    "three_tasks_shared": (_THREE, ()),
    "three_tasks_attribute": (_THREE, ("moe.condition=attribute",)),
    "three_tasks_token": (_THREE, ("moe.condition=token",)),
    "three_tasks_task_specific": (_THREE, ("moe.condition=task_specific",)),
}

IN_16_BIT = {"demo"}


def machine() -> dict[str, str]:
    """What decides how the sums of a run are rounded: on another machine figures agree only nearly.

    The instructions for 16 bit tell makers of processors with one vector width apart, whose float32 sums differ, too.
    """
    here = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return {
        "torch": torch.__version__.split("+")[0],
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "16 bit": " ".join(key for key in sorted(here) if here[key] is True and ("bf16" in key or "fp16" in key)),
    }


def numbers_of(known: dict[str, str]) -> Path:
    """The file with what was recorded on such a machine."""
    return NUMBERS / f"torch-{'-'.join(known.values()).replace(' ', '-')}.json"


def trained(name: str, folder: Path) -> dict[str, Any]:
    """Losses and gradient norms of every step of a recorded recipe, and the final weights' SHA-256."""
    recipe, words = _asked_for(name)
    _quietly("train", str(recipe), *words, "--out", str(folder))
    return run_figures(folder)


def begun(name: str, folder: Path, steps: int) -> dict[str, Any]:
    """The first steps of the same run, each of which shows the weights that the steps before it came to."""
    recipe, words = _asked_for(name)
    torch.set_num_threads(1)
    train(folder, read_recipe(recipe, dict(word.split("=", 1) for word in words)), steps, base=recipe.parent)
    return run_figures(folder)


def _asked_for(name: str) -> tuple[Path, list[str]]:
    recipe, changes = RUNS[name]
    return recipe, [*changes, *_QUICK, *_SHORT, f"steps={STEPS}", *_few_samples(recipe)]


def run_figures(folder: Path) -> dict[str, Any]:
    """What a run's folder says of its training."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if line["event"] == "train"]
    return {
        "losses": [
            {key: line[key] for key in sorted(line) if key.endswith("_loss") or key.endswith("/loss")} for line in steps
        ],
        "grad_norm": [line["grad_norm"] for line in steps],
        "weights": weights_hash(folder / "model" / "model.safetensors"),
    }


def weights_hash(path: Path) -> str:
    """SHA-256 over names, shapes and bytes of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(path).items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def went_on(folder: Path) -> dict[str, Any]:
    """The stopped run, copied to `folder` and trained to its end."""
    shutil.copytree(STOPPED, folder, dirs_exist_ok=True)
    _quietly("train", str(folder / "recipe.yaml"), "--out", str(folder))
    return run_figures(folder)


def answers(path: Path) -> dict[str, Any]:
    """What the model answers to every kind of question."""
    torch.set_num_threads(1)
    model = load(path)
    rng = np.random.default_rng(7)
    images = rng.integers(0, 256, (3, 40, 36, 3), dtype=np.uint8)
    clips = rng.integers(0, 256, (2, 5, 36, 40, 3), dtype=np.uint8)
    texts = ["the red circle is left of the blue square", "a green star", "two rings"]
    return {key: _plain(value) for key, value in _asked(model, images, clips, texts).items()}


def _asked(model: UniPerceiver, images: np.ndarray, clips: np.ndarray, texts: list[str]) -> dict[str, Any]:
    as_clip = [images]  # four axes were read as one clip, and the figures of that stay
    return {
        "classify image": model.classify(as_clip, labels=["a circle", ["a square", "one square"], "a star"]),
        "classify image by task": model.classify(images, task="colours"),
        "classify clip": model.classify(clips, labels=["left", "right"]),
        "classify clip by task": model.classify(clips, task="motions"),
        "classify text": model.classify(texts, labels=["left", "right", "above"]),
        "classify text by task": model.classify(texts, task="relations"),
        "caption image, greedy": model.caption(as_clip, beam=1, max_words=6),
        "caption image, beams": model.caption(as_clip, beam=3, max_words=6, length_penalty=0.5),
        "caption clip": model.caption(clips, max_words=6, task="clip_captions"),
        "rank image": model.rank(as_clip, texts),
        "rank clip": model.rank(clips, texts, task="clip_retrieval"),
        "encode image": model.encode_image(images),
        "encode clip": model.encode_video(clips),
        "encode text": model.encode_text(texts),
        "merged": model.merge().classify(images, task="colours"),
    }


def record() -> dict[str, Any]:
    """All numbers."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        return {
            "machine": machine(),
            "runs": {name: trained(name, place / name) for name in RUNS},
            "went on": went_on(place / "went_on"),
            "answers": answers(STOPPED / "model"),
        }


def _few_samples(recipe: Path) -> list[str]:
    """Fewer samples than the recipe has: 40 steps see no more, and the final evaluation is not what is recorded."""
    tasks = yaml.safe_load(recipe.read_text(encoding="utf-8"))["tasks"]
    return [word.format(task=task) for task in tasks for word in _FEW]


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, torch.Tensor) else value


def _quietly(*words: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
        code = main(words)
    if code:
        raise RuntimeError(f"{' '.join(words)}: exit code {code}: {errors.getvalue()[-500:]}")


if __name__ == "__main__":
    numbers_of(machine()).write_text(json.dumps(record(), indent=1) + "\n", encoding="utf-8")
