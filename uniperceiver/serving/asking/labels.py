"""What may be answered: the labels that a call gives, or those of the task that it asks. Nothing here needs torch."""

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from uniperceiver.errors import UserError
from uniperceiver.modalities import TEXT
from uniperceiver.serving.inputs import checked_text, text_list
from uniperceiver.serving.values import is_iterable, shown

Clean = Callable[[str], str]
SLOT = "{label}"  # of a template for labels


def classifies(question: str | None, inputs: Sequence[str], *, with_text: bool) -> bool:
    """Whether a call of `classify` may ask a task, with a text beside each input or without.

    Args:
        question: of the task, as its kind of answer names it.
        inputs: modalities that the task reads.
    """
    has_media = any(modality != TEXT for modality in inputs)
    return question == "classify" and (has_media and TEXT in inputs) == with_text


def labels_asked(
    own: tuple[tuple[str, ...], ...],
    labels: Iterable[str | Iterable[str]] | None,
    template: str | Iterable[str] | None,
    clean: Clean,
) -> tuple[tuple[str, ...], ...]:
    """The texts of each class that a call asks about: those that it gives, or else the task's own, in its template.

    Args:
        own: those of the task.
        clean: a text as the model reads it.

    Raises:
        UserError: labels that are none, or cannot be told apart.
    """
    named = own
    if labels is not None or template is not None:
        named = label_texts(own if labels is None else labels, template)
    if labels is not None:
        refuse_equal(named, clean)
    return named


def labels_of_things(
    call: str, own: Sequence[Sequence[str]], labels: Iterable[str | Iterable[str]] | None, *, alone: bool, clean: Clean
) -> tuple[tuple[str, ...], ...]:
    """The texts of each class that a call looks for: those that it gives, or else the task's own.

    Args:
        own: those of the task.
        alone: whether a single label can be told from nothing.
        clean: a text as the model reads it.

    Raises:
        UserError: labels that are none, or cannot be told apart.
    """
    if labels is None:
        return tuple(map(tuple, own))
    named = label_texts(labels)
    if len(named) > 1:
        refuse_equal(named, clean)
    elif not alone:
        raise UserError(
            f"{call}: labels: {shown(named[0][0])} alone would be the name of every thing; give those of other things, "
            "too"
        )
    return named


def refuse_no_labels(call: str, names: Sequence[object]) -> None:
    """Refuse a question about labels where there are none.

    Raises:
        UserError: there are none.
    """
    if not names:
        raise UserError(f"{call}: give labels=[...], or task= the name of a task of the run that has labels")


def same_labels(labels: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Labels as they are compared: in Unicode's composed form."""
    return tuple(tuple(unicodedata.normalize("NFC", text) for text in texts) for texts in labels)


def label_texts(
    labels: Iterable[str | Iterable[str]], template: str | Iterable[str] | None = None
) -> tuple[tuple[str, ...], ...]:
    """Labels as texts per class; a class may have one text or several.

    Args:
        template: one text or several, into which each label is put in the place of {label}.

    Raises:
        UserError: no labels, an empty one, a single text, or something that is no text, such as a number.
    """
    if isinstance(labels, str):
        raise UserError(f"labels: give a list of texts, such as [{shown(labels)}]")
    texts = tuple(_texts_of_class(label) for label in _ordered(labels, "labels"))
    if not texts or not all(names and all(name.strip() for name in names) for names in texts):
        raise UserError("labels: give at least one label, and a text for each")
    if template is None:
        return texts
    templates = text_list(template)
    for text in templates:
        if text.count(SLOT) != 1:
            raise UserError(f"template {shown(text)}: write {SLOT} once, where the label stands")
    if not templates:
        raise UserError(f"template: give at least one text, such as 'a photo of {SLOT}'")
    return tuple(tuple(text.replace(SLOT, name) for name in names for text in templates) for names in texts)


def refuse_equal(labels: Sequence[Sequence[str]], clean: Clean) -> None:
    """Refuse candidates that cannot be told apart, and one alone, whose probability is 1 whatever is seen.

    Args:
        clean: a text as the model reads it.

    Raises:
        UserError: there are fewer than two, or two of one text.
    """
    if len(labels) == 1:
        text = labels[0][0]
        apart = [part.strip() for part in text.split(",") if part.strip()]
        hint = f", such as {' '.join(map(shown, apart))}" if len(apart) > 1 else ""
        raise UserError(f"labels: {shown(text)} alone has probability 1 whatever is seen; give two or more{hint}")
    owners: dict[str, int] = {}
    for label, texts in enumerate(labels):
        for text in texts:
            if owners.setdefault(clean(text), label) != label:
                raise UserError(f"labels: the model reads {shown(text)} as the text of two labels; give it once")


def _texts_of_class(label: Any) -> tuple[str, ...]:
    many = is_iterable(label) and not isinstance(label, str | bytes)
    names = (label,) if isinstance(label, str) else _ordered(label, "labels") if many else ()
    for name in names or (label,):
        if not isinstance(name, str):
            raise UserError(f"labels: {shown(name)} is no text; give what the class is called, such as 'number 1'")
        checked_text(name, f"label {shown(name)}")
    return names


def _ordered(items: Any, what: str) -> tuple[Any, ...]:
    if isinstance(items, set | frozenset | Mapping) or not is_iterable(items):
        raise UserError(
            f"{what}: a {type(items).__name__} is no list of texts; give a list, in the order of the scores"
        )
    return tuple(items)
