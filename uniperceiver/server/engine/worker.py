"""The process of an engine: it loads a model, and answers batches until its input ends.

The front starts it as `python -m uniperceiver.server.engine.worker SETTINGS`; frames come in at its standard input and
go out at its standard output, which nothing else writes to. Only here is torch, or onnxruntime, imported.
"""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from uniperceiver.errors import UserError, shortened
from uniperceiver.server.engine import frames
from uniperceiver.server.engine.answers import answered
from uniperceiver.server.engine.frames import Frame
from uniperceiver.server.settings import Limits, ModelSource

_LONGEST = 400  # characters of a reason


def main() -> None:
    """Answer until the front closes its end."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the front says when it is time
        signal.signal(number, signal.SIG_IGN)
    # What a library prints must not come between the frames.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    words = json.loads(sys.argv[1])
    source, limits = ModelSource(**words["model"]), Limits(**words["limits"])
    try:
        model, facts = BACKENDS[source.backend](source)
    except UserError as error:
        _send(out, Frame(head={"refused": str(error)}))
        return
    _send(out, Frame(head=facts))
    while (asked := frames.read(sys.stdin.buffer)) is not None:
        _send(out, _answer(model, asked, limits))


def _send(out: BinaryIO, frame: Frame) -> None:
    try:
        out.write(frames.pack(frame))
        out.flush()
    except BrokenPipeError:
        sys.exit(0)  # the front is gone


def _answer(model: Any, asked: Frame, limits: Limits) -> Frame:
    """The answers to a frame {"question", "counts"} whose blobs are the items of all jobs, one job behind the other."""
    start = time.monotonic()
    blobs = iter(asked.blobs)
    jobs = [[next(blobs) for _ in range(count)] for count in asked.head["counts"]]
    try:
        outcomes = list(answered(model, asked.head["question"], jobs, limits))
    except Exception as error:  # a fault of ours or of the machine; the next batch may go well
        traceback.print_exc()
        return Frame(head={"failed": shortened(f"{type(error).__name__}: {error}", _LONGEST)})
    return Frame(
        head={
            "seconds": round(time.monotonic() - start, 6),
            "jobs": [
                {"answers": [{"values": a.values, "error": a.error} for a in answers], "notes": notes}
                for answers, notes in outcomes
            ],
        },
        blobs=[answer.floats for answers, _ in outcomes for answer in answers],
    )


def _torch(source: ModelSource) -> tuple[Any, dict[str, Any]]:
    """A trained model, and what clients may know of it.

    Raises:
        UserError: it cannot be loaded.
    """
    import torch

    from uniperceiver.runs.steps import load_saved, read_step
    from uniperceiver.serving.locate import model_folder
    from uniperceiver.serving.predictor import UniPerceiver

    if source.threads is not None:
        torch.set_num_threads(source.threads)
    step = read_step(source.step)
    saved = load_saved(source.path, step, trust=source.trust)
    model = UniPerceiver(saved, source.device, home=None if step is not None else model_folder(source.path))
    arch = model.saved.arch
    questions = {name: task.answer.question for name, task in model.tasks.items()}
    facts = {
        **_facts(model, source, questions),
        "summary": repr(model).removeprefix("UniPerceiver(").removesuffix(")"),
        "width": arch.width,
        "longest_text": arch.max_text,
        "routing": arch.moe is not None and arch.merged is None,
        "boxes": arch.regions is not None,
        "masks": arch.regions is not None and arch.regions.masks,
    }
    return model, facts


def _onnx(source: ModelSource) -> tuple[Any, dict[str, Any]]:
    """An exported model, without torch, and what clients may know of it.

    Raises:
        UserError: it cannot be loaded.
    """
    from uniperceiver.runner import Runner

    model = Runner(source.path, source.device, threads=source.threads)
    facts = {
        **_facts(model, source, {name: task.question for name, task in model.tasks.items()}),
        "summary": f"exported graphs of width {model.width}",
        "width": model.width,
        "longest_text": model.longest_text,
        "routing": False,
        "boxes": False,
        "masks": False,
    }
    return model, facts


def _facts(model: Any, source: ModelSource, questions: Mapping[str, str | None]) -> dict[str, Any]:
    """What every backend says."""
    tasks = {
        name: {
            "inputs": list(task.inputs),
            "question": questions[name],
            "labels": model.labels(name) if task.labels else [],
        }
        for name, task in model.tasks.items()
    }
    return {"name": source.name, "backend": source.backend, "tasks": tasks}


BACKENDS: Mapping[str, Callable[[ModelSource], tuple[Any, dict[str, Any]]]] = {"torch": _torch, "onnx": _onnx}


if __name__ == "__main__":
    main()
