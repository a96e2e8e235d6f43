"""The process of an engine: it loads a model, and answers batches until its input ends.

The front starts it as `python -m uniperceiver.server.engine.worker SETTINGS`; frames come in at its standard input and
go out at its standard output, which nothing else writes to. Only here is torch, or onnxruntime, imported.
"""

import json
import math
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, BinaryIO

from uniperceiver.errors import UserError, shortened
from uniperceiver.server.engine import frames
from uniperceiver.server.engine.answers import LookedAt, Noting, answered, looked_at
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
        Pipe(out).send(Frame(head={"refused": str(error)}))
        return
    noting = Noting(sys.stderr)
    sys.stderr = noting
    pipe = Pipe(out)
    pipe.send(Frame(head=facts))
    answer_all(sys.stdin.buffer, pipe, partial(_answer, model, noting=noting), limits)


class Pipe:
    """The way to the front, which two threads write to."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self._lock = out, threading.Lock()

    def send(self, frame: Frame) -> None:
        """Write a frame whole."""
        with self._lock:
            try:
                self._out.write(frames.pack(frame))
                self._out.flush()
            except BrokenPipeError:
                os._exit(0)  # the front is gone


def answer_all(asked_by: BinaryIO, pipe: Pipe, answer: Callable[..., Frame], limits: Limits) -> None:
    """Answer frames until there are no more; jobs with large items by and by, beside those that come meanwhile."""
    later = queue.SimpleQueue[Callable[[], Frame] | None]()

    def answer_large() -> None:
        while (make := later.get()) is not None:
            pipe.send(make())

    threading.Thread(target=answer_large, daemon=True).start()
    while (asked := frames.read(asked_by)) is not None:
        start, blobs, head = time.monotonic(), iter(asked.blobs), asked.head
        of_job = [[next(blobs) for _ in range(count)] for count in head["counts"]]
        jobs = dict(enumerate(looked_at(items, head["question"]["modality"], limits) for items in of_job))
        for place, job in jobs.items():
            if job.is_large:
                until = start + head["seconds"][place]
                later.put(partial(answer, head, {place: job}, until=until))
        pipe.send(answer(head, {place: job for place, job in jobs.items() if not job.is_large}))


def _answer(
    model: Any, head: Mapping[str, Any], jobs: Mapping[int, LookedAt], *, noting: Noting, until: float = math.inf
) -> Frame:
    """The answers to some jobs of a frame.

    Args:
        jobs: by their place in the frame.
        until: when nobody waits any more, by the clock of `time.monotonic`.
    """
    start, begin = time.monotonic(), {"number": head["number"], "places": list(jobs)}
    if start > until:
        return Frame(head={**begin, "failed": "a large item came too late"})
    try:
        outcomes = list(answered(model, head["question"], list(jobs.values()), noting)) if jobs else []
    except Exception as error:  # a fault of ours or of the machine; the next batch may go well
        traceback.print_exc()
        return Frame(head={**begin, "failed": shortened(f"{type(error).__name__}: {error}", _LONGEST)})
    return Frame(
        head={
            **begin,
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
    from uniperceiver.serving.asking.calls import merged_for_calls
    from uniperceiver.serving.locate import model_folder
    from uniperceiver.serving.predictor import UniPerceiver

    if source.threads is not None:
        torch.set_num_threads(source.threads)
    step = read_step(source.step)
    loaded = load_saved(source.path, step, trust=source.trust)
    saved = loaded if source.routed else merged_for_calls(loaded)
    as_saved = step is None and saved is loaded
    model = UniPerceiver(saved, source.device, home=model_folder(source.path) if as_saved else None)
    arch = saved.arch
    facts = {
        **_facts(model, source),
        "summary": repr(model).removeprefix("UniPerceiver(").removesuffix(")"),
        "width": arch.width,
        "longest_text": arch.max_text,
        "folded": saved is not loaded,
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
        **_facts(model, source),
        "folded": False,
        "summary": f"exported graphs of width {model.width}",
        "width": model.width,
        "longest_text": model.longest_text,
        "routing": False,
        "boxes": "detect" in model.questions.values(),
        "masks": any(task.masks for task in model.tasks.values()),
    }
    return model, facts


def _facts(model: Any, source: ModelSource) -> dict[str, Any]:
    """What every backend says."""
    tasks = {
        name: {
            "inputs": list(task.inputs),
            "question": model.questions[name],
            "masks": task.masks,
            "labels": model.labels(name) if task.labels else [],
        }
        for name, task in model.tasks.items()
    }
    return {"name": source.name, "backend": source.backend, "tasks": tasks}


BACKENDS: Mapping[str, Callable[[ModelSource], tuple[Any, dict[str, Any]]]] = {"torch": _torch, "onnx": _onnx}


if __name__ == "__main__":
    main()
