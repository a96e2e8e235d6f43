"""RECIPE -> TASKS AND DATA: opened sources and the tasks on them."""

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uniperceiver.config import AugmentConfig, DataConfig, Recipe, SoundConfig, TaskConfig
from uniperceiver.data.formats import (
    Source,
    class_names,
    classes_of,
    fault_of,
    has_masks,
    labels_there,
    notes_of,
    open_source,
    thing_counts,
)
from uniperceiver.data.formats.files import composed
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.data.media.sound_view import sound_shape
from uniperceiver.data.prompts import refuse_prompts, with_prompts
from uniperceiver.errors import BrokenSample, UserError, listed, nearest
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.task import Task

SPLITS = ("train", "val", "test")
_OF_PICTURES = ("crop", "flip", "flip_vertical", "colour", "randaugment", "erasing", "cutmix")  # keys of `augment`
_OF_SOUNDS = ("gain", "noise", "mask_time", "mask_mels")
_LOOKED_AT = 20  # pictures whose boxes are compared with them when a split is opened


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """A task of the run with its opened sources."""

    task: Task
    index: int | None  # among the tasks of the run; None: a task that the model was not trained on
    config: TaskConfig
    sources: Mapping[str, Source]  # by split
    preprocess: Preprocess  # at the end of training


def open_tasks(recipe: Recipe, base: Path, splits: tuple[str, ...] = SPLITS) -> list[TaskData]:
    """The recipe's tasks with their data opened; relative paths start at `base`.

    Raises:
        UserError: unknown kind, data that are not there, classes that do not match, sizes that do not fit.
    """
    return [
        _open_task(name, index, config, base, splits, recipe.data, recipe.model.sound)
        for index, (name, config) in enumerate(recipe.tasks.items())
    ]


def _open_task(
    name: str,
    index: int,
    config: TaskConfig,
    base: Path,
    splits: tuple[str, ...],
    data: DataConfig,
    sound: SoundConfig,
) -> TaskData:
    where = f"tasks.{name}"
    if config.kind not in CATALOGUE:
        raise UserError(f"{where}.kind: unknown kind {config.kind!r}; {nearest(config.kind, CATALOGUE)}")
    sources: dict[str, Source] = {}
    specs = {"train": config.train, "val": config.val, "test": config.test}
    for split in splits:
        if (spec := specs[split]) is not None:
            sources[split] = open_source(spec, f"{where}.{split}", base)
    if not sources:
        raise UserError(f"{where}: has no data; give train: {{format: ..., path: ...}}")
    task = dataclasses.replace(CATALOGUE[config.kind], name=name)
    prompted = bool(config.prompts or config.evaluation_prompts)
    if prompted:
        refuse_prompts(task, config, where)
    labels = _labels(config, sources, where) if task.answer.has_labels or prompted else ()
    if task.answer.has_labels:
        task = dataclasses.replace(task, labels=labels)
    elif config.labels is not None and not prompted:
        raise UserError(f"{where}.labels: a task of kind {config.kind!r} has no labels; remove the key")
    if prompted:
        task, sources = with_prompts(task, config, sources, labels, where)
    if (config.class_term, config.objectness) != ("softmax", "focal"):
        task = _with_terms(task, config, where)
    if task.answer.reads_objects:
        _refuse_for_things(task, config, sources, where)
    _refuse_augmentation(task, config, sound, f"{where}.augment")
    if config.template is not None:
        try:
            task = dataclasses.replace(task, template=config.template)
        except ValueError as error:
            raise UserError(f"{where}.template: {error}") from None
    preprocess = Preprocess(
        size=config.late.size or config.size,
        frames=config.late.frames or config.frames,
        stride=config.stride,
        seconds=config.seconds,
        hop=config.hop,
        sound=sound_shape(sound) if task.hears else None,
        length=config.length,
        megapixels=data.megapixels,
        decode=data.decode,
        fit=config.fit or ("squash" if task.answer.reads_objects else "crop"),
    )
    return TaskData(task=task, index=index, config=config, sources=sources, preprocess=preprocess)


def _refuse_augmentation(task: Task, config: TaskConfig, sound: SoundConfig, where: str) -> None:
    """Refuse keys of `augment` that have no meaning for a task.

    Raises:
        UserError: there are some.
    """
    augment, usual = config.augment, AugmentConfig()
    for keys, has, mend in (
        (
            _OF_PICTURES,
            task.visual is not None or not task.hears,
            "sounds take gain, noise, mask_time, mask_mels, mixup",
        ),
        (_OF_SOUNDS, task.hears, "the task does not hear"),
    ):
        for key in keys:
            if not has and getattr(augment, key) != getattr(usual, key):
                raise UserError(f"{where}.{key}: not for this task: {mend}; remove the key")
    if augment.mask_mels and sound.kind == "waveform":
        raise UserError(f"{where}.mask_mels: a waveform has no bands; remove the key")
    alone = task.inputs == task.media and len(task.media) == 1
    if (augment.mixup or augment.cutmix) and not (task.answer.has_labels and alone):
        raise UserError(
            f"{where}: mixup and cutmix need pictures (or mixup sounds) alone as input and labels as candidates"
        )


def _with_terms(task: Task, config: TaskConfig, where: str) -> Task:
    """The task with another way to learn the names of things, or that they are there."""
    if not task.answer.reads_objects:
        key = "objectness" if config.class_term == "softmax" else "class_term"
        raise UserError(f"{where}.{key}: a task of kind {config.kind!r} has no things; remove the key")
    if config.class_term == "sigmoid" and config.label_smoothing:
        raise UserError(
            f"{where}.label_smoothing: spreads the target over names of which one is right, and with "
            "class_term=sigmoid each is a yes or no of its own; remove one of the two keys"
        )
    try:
        return dataclasses.replace(task, class_term=config.class_term, objectness=config.objectness)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def _refuse_for_things(task: Task, config: TaskConfig, sources: Mapping[str, Source], where: str) -> None:
    """Refuse what a task about the things in pictures cannot use.

    Raises:
        UserError: augmentation that boxes do not follow, training data without a thing, masks that nothing has.
    """
    follow = "use crop, flip, flip_vertical and colour"
    why = {
        "randaugment": f"its operations turn and shift a picture, and boxes would stay behind; {follow}",
        "erasing": f"a thing that is erased would still be asked for; {follow}",
        "mixup": "a picture of two has the things of one",
        "cutmix": "a picture of two has the things of one",
    }
    for key, reason in why.items():
        if getattr(config.augment, key):
            raise UserError(f"{where}.augment.{key}: not for a task about things: {reason}; remove the key")
    if "train" in sources and labels_there(sources["train"]) == frozenset():
        fault = fault_of(sources["train"])
        raise UserError(
            f"{where}.train: no thing is marked in any picture, so there is nothing to learn; give another file"
            if fault is None
            else f"{where}.train: no thing in any picture can be read, so there is nothing to learn; the first: {fault}"
        )
    for split, source in sources.items():
        if task.masks and has_masks(source) is False:
            raise UserError(f"{where}.{split}: no thing has an outline, so there are no masks; use object_detection")
        _refuse_boxes_beyond(source, f"{where}.{split}")


def _refuse_boxes_beyond(source: Source, where: str) -> None:
    """Refuse boxes that are for other pictures, where that is seen only once the pictures are read.

    Raises:
        UserError: most boxes of the first pictures reach out of them.
    """
    total, beyond, looked_at, name = 0, 0, 0, ""
    for index in range(min(_LOOKED_AT, len(source))):
        try:
            sample = source.read(index)
        except BrokenSample:  # which is told when its turn comes
            continue
        own = sample.boxes_clipped + sample.boxes_left_out
        total += sample.boxes_left_out + (0 if sample.boxes is None else len(sample.boxes))
        beyond, looked_at, name = beyond + own, looked_at + 1, name or (sample.id if own else "")
    if 2 * beyond > total:
        raise UserError(
            f"{where}: {beyond:,} of the {total:,} boxes in the first {looked_at} pictures reach out of them, as in "
            f"{name}: are they for larger copies of these pictures, or of another form (in a table, key box_form)?"
        )


def _difference(names: Sequence[str], others: Sequence[str], first: str) -> str:
    """In what the classes of a split differ from those of the first."""
    lacking = [name for name in others if name not in names]
    more = [name for name in names if name not in others]
    parts = [f"lack {listed(lacking, 5)}"] * bool(lacking) + [f"also have {listed(more, 5)}"] * bool(more)
    what = " and ".join(parts) or "stand in another order"
    return (
        f"its classes ({len(names):,}) are not those of {first} ({len(others):,}): they {what}; "
        "list the classes in key 'classes' of every split, in one order"
    )


def source_notes(tasks: Sequence[TaskData]) -> list[str]:
    """What was left out when the sources of tasks were opened, each line once, with the splits that it is about."""
    splits: dict[str, list[str]] = {}
    for data in tasks:
        for split, source in data.sources.items():
            for note in notes_of(source):
                splits.setdefault(note, []).append(f"{data.task.name}/{split}")
    return [f"{listed(names, 4)}: {note}" for note, names in splits.items()]


def repeated_notes(data: TaskData) -> list[str]:
    """A line about each split of a task that has the data of its train split."""
    specs = {"val": data.config.val, "test": data.config.test}
    return [
        f"{data.task.name}/{split}: the same data as train, so its figures do not tell what is learnt from what is "
        "known by heart"
        for split, spec in specs.items()
        if spec is not None and spec == data.config.train
    ]


def lacking_notes(data: TaskData) -> list[str]:
    """A line about each split of a task in which classes have no sample, as far as that is known before any is read."""
    if not data.task.answer.has_labels:
        return []
    lines = []
    for split, source in data.sources.items():
        names, there = class_names(source) or (), labels_there(source)
        lacking = [] if there is None else [name for label, name in enumerate(names) if label not in there]
        if not lacking:
            continue
        so = (
            "they are not learnt here: add samples, or remove them from the classes"
            if split == "train"
            else "its figures say nothing of them"
        )
        lines.append(f"{data.task.name}/{split}: classes without a sample: {listed(map(repr, lacking), 4)}; {so}")
    return lines


def crowded_notes(data: TaskData, queries: int) -> list[str]:
    """A line about each split whose pictures have more things than a model has queries, as far as that is known."""
    if not data.task.answer.reads_objects:
        return []
    lines = []
    for split, source in data.sources.items():
        counts_I = thing_counts(source)
        if counts_I is None or not (more := int((counts_I > queries).sum())):
            continue
        surplus = int((counts_I - queries).clip(0).sum())
        so = "are not learnt" if split == "train" else "cannot be found"
        lines.append(
            f"{data.task.name}/{split}: {more:,} of {len(counts_I):,} pictures have more things than "
            f"model.regions.queries {queries}, up to {int(counts_I.max()):,}; {surplus:,} things {so}: raise it"
        )
    return lines


def alike_notes(data: TaskData, read: Callable[[str], Hashable]) -> list[str]:
    """A line about classes of a task that have the same texts; nothing where all differ.

    Args:
        read: what whoever answers reads of a text, such as its tokens.
    """
    groups: dict[frozenset[Hashable], list[int]] = {}
    for number, texts in enumerate(data.task.labels):
        groups.setdefault(frozenset(map(read, texts)), []).append(number)
    alike = [group for group in groups.values() if len(group) > 1]
    if not alike:
        return []
    names = class_names(next(iter(data.sources.values())))
    assert names is not None
    shown = [
        f"{listed((repr(names[number]) for number in group), 4)} as {data.task.labels[group[0]][0]!r}"
        for group in alike
    ]
    return [
        f"tasks.{data.task.name}: {sum(map(len, alike)):,} classes share their text with another, so no answer tells "
        f"them apart: {listed(shown, 4)}; give them texts of their own (labels: {{{names[alike[0][0]]!r}: ...}}), or "
        "join them"
    ]


def _labels(config: TaskConfig, sources: Mapping[str, Source], where: str) -> tuple[tuple[str, ...], ...]:
    """The texts of every class, which must be the same classes in all splits."""
    first, *others = sources
    texts, names = classes_of(sources[first], f"{where}.{first}"), class_names(sources[first])
    for split in others:
        if class_names(sources[split]) != names:
            raise UserError(f"{where}.{split}: {_difference(class_names(sources[split]) or (), names or (), first)}")
    if twice := next((name for name in names or () if (names or ()).count(name) > 1), None):
        raise UserError(f"{where}.{first}: two classes are called {twice!r}, in two forms of Unicode; rename one (NFC)")
    if config.labels is None:
        return texts
    assert names is not None
    own_texts = {}
    for name, value in config.labels.items():
        if composed(name) not in names:
            raise UserError(f"{where}.labels: no class {name!r} in the data; {nearest(name, names)}")
        own_texts[composed(name)] = (value,) if isinstance(value, str) else tuple(value)
    return tuple(own_texts.get(name, default) for name, default in zip(names, texts, strict=True))
