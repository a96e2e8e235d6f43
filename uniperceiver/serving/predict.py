"""The answers of `uniperceiver predict`: files in, plain values out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uniperceiver.devices import device_of
from uniperceiver.errors import UserError, warn
from uniperceiver.modalities import TEXT
from uniperceiver.model.architecture import notes_on
from uniperceiver.serving.predictor import UniPerceiver
from uniperceiver.serving.saved import SavedModel

_SHOWN = 5  # candidates per file on the console


def predict(
    path: Path | SavedModel,
    question: str,
    files: Sequence[str],
    *,
    labels: Sequence[str] | None,
    texts: Sequence[str] | None,
    task: str | None,
    asked: str | None = None,
    beam: int,
    device: str,
) -> list[dict[str, Any]]:
    """Ask a model a question about files.

    Args:
        path: where the model lies, or the model itself.
        asked: a text that is read beside each file, such as a question about it.

    Returns:
        A mapping per file: {"file", "answer"} and, with candidates, {"scores": {text: value}}, best first.

    Raises:
        UserError: a file that cannot be read, an unknown task, or candidates that are missing.
    """
    place = device_of(device)
    model = UniPerceiver(path, place) if isinstance(path, SavedModel) else UniPerceiver.from_pretrained(path, place)
    for note in notes_on(model.saved.arch):
        warn(note)
    if question == "caption":
        captions = model.caption(files, beam, task)
        return [{"file": file, "answer": caption} for file, caption in zip(files, captions, strict=True)]
    if question == "rank":
        if not texts:
            raise UserError("predict rank: give the texts to compare with: --texts TEXT ...")
        return _scored(files, texts, model.rank(files, texts, task).tolist())
    if labels is None and task is None:
        raise UserError(f"predict classify: give --labels TEXT ..., or --task one of {_classifying(model)}")
    trained = None if task is None else model.saved.tasks.get(task)
    if trained is not None and trained.task.media and TEXT in trained.task.inputs and not asked:
        raise UserError(f"predict classify: task {task!r} reads a text beside each file; give it with --question TEXT")
    scores_NK = model.classify(files, labels, task, texts=asked).tolist()
    if trained is not None and labels is None:
        labels = trained.task.answer.names(trained.task, model.codec)
    return _scored(files, labels or (), scores_NK)


def _classifying(model: UniPerceiver) -> str:
    tasks = (name for name, trained in model.saved.tasks.items() if trained.task.answer.question == "classify")
    return ", ".join(tasks) or "(none has labels)"


def _scored(files: Sequence[str], names: Sequence[str], scores_NK: list[list[float]]) -> list[dict[str, Any]]:
    answers = []
    for file, scores_K in zip(files, scores_NK, strict=True):
        scores = dict(sorted(zip(names, scores_K, strict=True), key=lambda pair: -pair[1]))
        answers.append({"file": file, "answer": next(iter(scores)), "scores": scores})
    return answers


def as_text(answers: Sequence[dict[str, Any]]) -> list[str]:
    """Lines for people."""
    lines = []
    for answer in answers:
        lines.append(f"{answer['file']}: {answer['answer']}")
        lines += [f"    {score:7.3f}  {name}" for name, score in list(answer.get("scores", {}).items())[:_SHOWN]]
    return lines
