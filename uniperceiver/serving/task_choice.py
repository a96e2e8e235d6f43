"""Which task a call is about: one of the model's own, one that is given, or one of the catalogue.

A model that chose its experts by task has parameters for its own tasks only: there, a call without a task is about the
only one of them that fits.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.errors import UserError, listed, nearest
from uniperceiver.modalities import TEXT
from uniperceiver.serving.asking.labels import classifies, labels_asked, refuse_no_labels, same_labels
from uniperceiver.serving.saved import KnownTask, SavedModel
from uniperceiver.serving.values import shown
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.task import TEMPERATURES, Task


def for_texts(saved: SavedModel, task: str | Task | None) -> KnownTask:
    """The task whose candidates texts are: the one asked for, or else retrieval.

    Raises:
        UserError: the model has no task of that name; or it needs one, and several fit.
    """
    return _chosen(saved, "encode_text", task, CATALOGUE["image_text_retrieval"], lambda task: task.target == TEXT)


def modality_asked(saved: SavedModel, task: str | Task | None) -> str | None:
    """The first modality that a task looks at, so that what is handed over has one reading; None: no task is named.

    Raises:
        UserError: neither a name nor a Task.
    """
    if not isinstance(task, str | Task | None):
        raise UserError(f"task: a {type(task).__name__} is no task; give the name of one, or a Task")
    asked = saved.tasks[task].task if isinstance(task, str) and task in saved.tasks else task
    return asked.inputs[0] if isinstance(asked, Task) else None


def refuse_other_modality(call: str, task: Task, items: Any, named: str | None) -> None:
    """Refuse a `modality=` that the task does not look at.

    Raises:
        UserError: it does not.
    """
    if named is not None and not isinstance(items, Mapping) and named != task.inputs[0]:
        raise UserError(f"{call}: modality={named!r}, but task {task.name!r} looks at {', '.join(task.inputs)}")


def fitting(
    saved: SavedModel, call: str, task: str | Task | None, question: str, modality: str, fits: Callable[[Task], bool]
) -> KnownTask:
    """The task asked for, or else an anonymous one of the catalogue, with the preprocessing that fits it best.

    Args:
        question: of the anonymous task, as its kind of answer names it: "classify", "caption" or "rank".
        modality: of what the call is about: the first one among the anonymous task's inputs.
        fits: whether a task can be asked by this call.

    Raises:
        UserError: neither a name nor a Task; the model has no task of that name; it does not fit the call; or the model
            needs a task, and not exactly one fits. Those of the model that fit are listed.
    """
    modality_asked(saved, task)  # refuses what is no task
    alike = (kind for kind in CATALOGUE.values() if kind.inputs[0] == modality and kind.answer.question == question)
    anonymous = next(filter(fits, alike), None)
    if anonymous is None and not isinstance(task, Task) and task not in saved.tasks:
        names = ", ".join(name for name, trained in saved.tasks.items() if fits(trained.task))
        raise UserError(f"{call}: say with task= which task is asked about this {modality}: {names or '(none fits)'}")
    chosen = _chosen(saved, call, task, anonymous, lambda task: fits(task) and task.inputs[0] == modality)
    if not fits(chosen.task):
        names = ", ".join(name for name, trained in saved.tasks.items() if fits(trained.task))
        raise UserError(
            f"{call}: cannot be asked of task {chosen.task.name!r}; of this model's tasks: {names or '(none)'}"
        )
    return chosen


def to_classify(
    saved: SavedModel,
    call: str,
    modality: str,
    task: str | Task | None,
    labels: Iterable[str | Iterable[str]] | None,
    template: str | Iterable[str] | None,
    *,
    with_text: bool,
) -> KnownTask:
    """The task asked for, or an anonymous one, with the labels to choose among.

    Args:
        modality: of what the call is about.
        with_text: whether a text is read beside a picture.

    Raises:
        UserError: as `fitting`; no labels, or some that cannot be told apart.
    """

    def fits(asked: Task) -> bool:
        return classifies(asked.answer.question, asked.inputs, with_text=with_text)

    chosen = fitting(saved, call, task, "classify", modality, fits)
    named = labels_asked(chosen.task.labels, labels, template, saved.codec.clean)
    asked = replace(chosen.task, labels=named)
    if template is not None:  # which takes the place of those that the model was trained with
        asked = replace(asked, prompts=(), evaluation_prompts=())
    chosen = replace(chosen, task=asked)
    refuse_no_labels(call, chosen.task.answer.names(chosen.task, saved.codec))
    refuse_other_classes(saved, chosen.task)
    return chosen


def _chosen(
    saved: SavedModel, call: str, task: str | Task | None, anonymous: Task | None, fits: Callable[[Task], bool]
) -> KnownTask:
    """The task asked for; without one, `anonymous`, or what stands for it in a model that needs a task of its own."""
    if isinstance(task, str):
        if task not in saved.tasks:
            raise UserError(f"unknown task {task!r}; {nearest(task, saved.tasks)}")
        return saved.tasks[task]
    if not saved.arch.needs_task:
        asked = task or anonymous
        assert asked is not None
        if asked.hears and saved.arch.sound is None:
            tasks = [f"{name} ({', '.join(trained.task.inputs)})" for name, trained in saved.tasks.items()]
            raise UserError(f"{call}: this model does not hear; its tasks: {listed(tasks, 6)}")
        preprocess = preprocess_for(saved.tasks, asked)
        if asked.hears and preprocess.sound is None:  # no task of the model looks at just this, but it hears
            preprocess = replace(preprocess, sound=saved.arch.sound)
        return KnownTask(task=asked, index=None, preprocess=preprocess)
    if task is not None:
        return _as_trained(saved, call, task)
    held = saved.tasks if saved.arch.merged is None else saved.arch.merged.tasks
    candidates = [trained for name, trained in saved.tasks.items() if name in held and fits(trained.task)]
    alike = [trained for trained in candidates if anonymous and trained.task.answer_name == anonymous.answer_name]
    if len(alike or candidates) != 1:
        names = ", ".join(trained.task.name for trained in candidates)
        raise UserError(
            f"{call}: this model chose its experts by task; say with task= which one is asked: {names or '(none fits)'}"
        )
    return (alike or candidates)[0]


def _as_trained(saved: SavedModel, call: str, task: Task) -> KnownTask:
    """A given task with the parameters of the model's task of that name, whose question it must ask."""
    chosen, alike = (
        saved.tasks.get(task.name),
        {"labels": (), "template": None, "prompts": (), "evaluation_prompts": ()},
    )
    if chosen is None or replace(chosen.task, **alike) != replace(task, **alike):  # type: ignore[arg-type]
        raise UserError(
            f"{call}: this model chose its experts by task, and task {task.name!r} is none of those it was trained on: "
            f"{', '.join(saved.tasks)}"
        )
    return replace(chosen, task=task)


def refuse_other_classes(saved: SavedModel, task: Task) -> None:
    """Refuse other labels than those that a model was tuned for, where it has parameters for each class.

    Raises:
        UserError: they are others.
    """
    prompts = saved.arch.prompts
    classes = 0 if prompts is None else prompts.classes or prompts.labels
    if not classes or not task.answer.has_labels:
        return
    own = [same_labels(trained.task.labels) for trained in saved.tasks.values() if trained.task.labels]
    # A converted model does not know what its classes are called, only how many there are.
    if not own and len(task.labels) != classes:
        raise UserError(
            f"task {task.name!r}: this model was tuned with parameters for each of {classes} classes, found "
            f"{len(task.labels)} labels; give those of its classes, in their order"
        )
    if own and same_labels(task.labels) not in own:
        raise UserError(
            f"task {task.name!r}: this model was tuned with parameters for each class of {', '.join(saved.tasks)}, so "
            "other labels mean nothing to it; use its own labels, or the model that it was made from"
        )


def labels_of(saved: SavedModel, name: str) -> list[str]:
    """What the classes of a task are called, in their order.

    Raises:
        UserError: the model has no such task, or the task has no labels.
    """
    if not isinstance(name, str) or name not in saved.tasks:
        raise UserError(f"labels: no task {shown(name)}; {nearest(shown(name), saved.tasks)}")
    task = saved.tasks[name].task
    if not task.labels:
        raise UserError(f"labels: task {name!r} has none; it answers with {task.answer.described(task)}")
    return task.answer.names(task, saved.codec)


def media_alone(chosen: KnownTask) -> KnownTask:
    """A task without the text that it reads behind its media, such as a caption or a question."""
    media = chosen.task.media or chosen.task.inputs
    task = replace(
        chosen.task,
        inputs=media,
        read_at="summary",
        candidates="labels",
        target=TEXT,
        temperature=chosen.task.temperature if chosen.task.target == TEXT else TEMPERATURES[0],
        labels=(),
        template=None,
        masks=False,
        class_term="softmax",
        objectness="focal",
    )
    return replace(chosen, task=task)


def preprocess_for(tasks: Mapping[str, KnownTask], task: Task) -> Preprocess:
    """The preprocessing of the model's task that is most like this one."""
    alike = sorted(
        tasks.values(),
        key=lambda trained: (
            trained.task.name != task.name,
            trained.task.media != task.media,
            trained.task.hears != task.hears,
            trained.task.answer_name != task.answer_name,
            trained.index or 0,
        ),
    )
    return alike[0].preprocess if alike else Preprocess()
