"""Sequences of pictures and a text, as benchmarks and tests write and read them: by the names of their tensors."""

from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from uniperceiver.modalities import TEXT
from uniperceiver.records import Part, Sequences

_OF_TEXT = ("valid_BN", "position_BN", "order_BN", "query_BN")


@dataclass(frozen=True, kw_only=True)
class Flat:
    """The tensors of sequences; None where there is no such part."""

    pixels_BFCHW: Tensor | None = None
    ids_BN: Tensor | None = None
    valid_BN: Tensor | None = None
    position_BN: Tensor | None = None
    order_BN: Tensor | None = None
    query_BN: Tensor | None = None


def flat(sequences: Sequences) -> Flat:
    """The tensors of a picture or clip and a text."""
    media, text = sequences.media, sequences.text
    assert len(media) <= 1
    values: dict[str, Tensor | None] = {} if text is None else {name: getattr(text, name) for name in _OF_TEXT}
    return Flat(pixels_BFCHW=media[0].values if media else None, ids_BN=None if text is None else text.values, **values)


def sequences_of(*, pixels_BFCHW: Tensor | None = None, ids_BN: Tensor | None = None, **others: Any) -> Sequences:
    """Sequences of an image (one frame) or clip, and a text; `others` are fields of a Part or of Sequences."""
    parts = []
    if pixels_BFCHW is not None:
        parts.append(Part(modality="image" if pixels_BFCHW.shape[1] == 1 else "video", values=pixels_BFCHW))
    of_text = {name: others.pop(name) for name in _OF_TEXT if name in others}
    if ids_BN is not None:
        parts.append(Part(modality=TEXT, values=ids_BN, **of_text))
    return Sequences(parts=tuple(parts), **others)


def changed(sequences: Sequences, **changes: Any) -> Sequences:
    """The same sequences with other tensors or fields; None takes a part away."""
    names = {field.name for field in fields(Flat)}
    tensors = {**vars(flat(sequences)), **{name: changes.pop(name) for name in names & changes.keys()}}
    return replace(sequences, parts=sequences_of(facts=sequences.facts, **tensors).parts, **changes)
