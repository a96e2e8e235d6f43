"""An export beside the model that it was made from: time of graphs, of 8 bits, and of the first answer.

CPU time of one thread, paired and in turns; python -m benchmarks.export [--quick] [--json FILE] [RUN]
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import BenchmarkRow, figure, main
from uniperceiver import ModelConfig, MoEConfig, UniPerceiver
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.model.build import build
from uniperceiver.runner import Runner
from uniperceiver.runs.architecture import architecture
from uniperceiver.serving.saved import KnownTask, SavedModel
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.task import TEMPERATURES
from uniperceiver.tokenizers import bpe

_FIRST = """
import re, sys, time
started = time.process_time()
import numpy
{imports}
model = {model}
model.classify(numpy.zeros((64, 64, 3), dtype=numpy.uint8), ["a red circle", "a blue square"])
high = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]  # ru_maxrss begins with that of the parent
print(time.process_time(), int(high) / 1024)
"""
_RUNNER = _FIRST.format(imports="from uniperceiver.runner import Runner", model="Runner(sys.argv[1], threads=1)")
_MODEL = _FIRST.format(imports="import uniperceiver", model="uniperceiver.load(sys.argv[1])")


def measure(pairs: int, place: Path | None = None) -> list[BenchmarkRow]:
    """Graphs over torch at batches of 1 and 32, 8 bits over float32, and the first answer of a process."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = UniPerceiver(_nano()) if place is None else UniPerceiver.from_pretrained(place)
        saved, out = Path(folder) / "model", Path(folder) / "export"
        model.save_pretrained(saved)
        model.export(out, int8=True)
        whole, small = Runner(out, threads=1), Runner(out, int8=True, threads=1)
        rows = []
        for name, value, batch, goal in _cases():
            of = [_asking(answering, name, value, batch) for answering in (whole, model, small)]
            rows.append(_cpu_ratio(f"export/onnx over torch/{name}/batch{batch}", of[0], of[1], goal, pairs))
            if (name, batch) == ("image", 32):
                rows.append(_cpu_ratio(f"export/int8 over onnx/{name}/batch{batch}", of[2], of[0], 0.65, pairs))
        return rows + _first_answers(out, saved, max(3, pairs // 6))


def _cases() -> list[tuple[str, Any, int, float]]:
    """What is encoded, how many at once, and the goal."""
    source = ScenesSource(items=32, pixels=64)
    pictures = [np.asarray(source.read(index).image) for index in range(32)]
    texts = [source.read(index).captions[0] for index in range(32)]
    return [("image", pictures, 1, 0.5), ("image", pictures, 32, 1.0), ("text", texts, 1, 0.3)]


def _asking(answering: Any, name: str, values: list[Any], batch: int) -> Callable[[], object]:
    encode = answering.encode_image if name == "image" else answering.encode_text
    return lambda: encode(values[:batch])


def _cpu_ratio(
    name: str, measured: Callable[[], object], baseline: Callable[[], object], goal: float, pairs: int
) -> BenchmarkRow:
    """CPU time of one over that of the other, in turns: what other programs do at the same time matters less."""
    measured()
    baseline()
    ratios = [_cpu(measured) / _cpu(baseline) for _ in range(pairs)]
    return figure(name, ratios, "ratio", goal=goal)


def _cpu(run: Callable[[], object], times: int = 5) -> float:
    start = time.process_time()
    for _ in range(times):
        run()
    return time.process_time() - start


def _first_answers(out: Path, saved: Path, times: int) -> list[BenchmarkRow]:
    """Of new processes: CPU seconds and MB until they have answered."""
    runner = [_process(_RUNNER, out) for _ in range(times)]
    model = [_process(_MODEL, saved) for _ in range(times)]
    ratios = [own[0] / other[0] for own, other in zip(runner, model, strict=True)]
    return [
        figure("export/first answer/runner", [seconds for seconds, _ in runner], "s", goal=1.0),
        figure("export/first answer/memory", [size for _, size in runner], "MB", goal=150),
        figure("export/first answer/runner over model", ratios, "ratio", goal=0.25),
    ]


def _process(code: str, folder: Path) -> tuple[float, float]:
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    seconds, size = map(float, done.stdout.split())
    return seconds, size


def _nano() -> SavedModel:
    """A model of size nano with random weights, which cost what trained ones cost."""
    codec = bpe.train(ScenesSource(items=200).texts(), size=2000, lowercase=True)
    arch = architecture(
        ModelConfig(size="nano"), MoEConfig(), tasks=1, vocabulary=codec.size, end=codec.end, answer=codec.answer
    )
    model = build(arch, TEMPERATURES, torch_stream(0, "weights")).eval()
    task = CATALOGUE["image_text_retrieval"]
    known = KnownTask(task=task, index=0, preprocess=Preprocess(size=64))
    return SavedModel(model=model, arch=arch, codec=codec, tasks={task.name: known})


if __name__ == "__main__":
    main(measure, "RUN")
