"""A task: a question of the form *which candidate is most likely, given this input?*, declared in one record."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from uniperceiver.records import KIND_OF_MODALITY, Facts, Side

# One learned temperature per family; all eleven of the original release, so that its weights fit.
TEMPERATURES: tuple[str, ...] = (
    "img_cls",
    "video_cls",
    "text_mlm",
    "text_caption",
    "caption",
    "mlm",
    "retrieve",
    "tqa_mlm",
    "tqa_caption",
    "tqa_retrieve",
    "downstream",
)

# Which candidates can be asked for at each read-out.
_CANDIDATES_READ_AT = {"summary": ("labels", "in_batch"), "masked": ("labels", "vocabulary"), "next": ("vocabulary",)}


@dataclass(frozen=True, kw_only=True)
class Task:
    """A question over an input and a set of candidate answers; everything else is derived from it.

    Raises:
        ValueError: the fields contradict each other.

    Example:
        >>> from uniperceiver import Task
        >>> answers = (("yes",), ("no",))
        >>> task = Task(name="pets", inputs=("image",), candidates="labels", temperature="img_cls", labels=answers)
        >>> task.read_at
        'summary'
    """

    name: str
    inputs: tuple[str, ...]  # modalities, joined in this order into one sequence: "image", "video", "text"
    candidates: Literal["labels", "in_batch", "vocabulary"]  # where the possible answers come from
    temperature: str  # one of TEMPERATURES
    read_at: Literal["summary", "masked", "next"] = "summary"  # which positions of the input answer
    target: str = "text"  # modality of the candidates
    labels: tuple[tuple[str, ...], ...] = ()  # texts per class, only with candidates="labels"
    template: str | None = None  # wraps an input text: "{text}" and, with read_at="masked", "{answer}"

    def __post_init__(self) -> None:
        for wrong in (*self._wrong_modalities(), *self._wrong_answers(), *self._wrong_template()):
            raise ValueError(f"task {self.name!r}: {wrong}")

    def _wrong_modalities(self) -> Iterator[str]:
        if unknown := {*self.inputs, self.target} - set(KIND_OF_MODALITY):
            yield f"unknown modality {sorted(unknown)[0]!r}"
        elif [KIND_OF_MODALITY[each] for each in self.inputs] not in (["visual"], ["text"], ["visual", "text"]):
            yield f"inputs={self.inputs!r} must be an image or a video, or a text, or one of each in this order"
        if self.target != "text" and self.candidates != "in_batch":
            yield f"target={self.target!r}, but labels and words are texts"
        if self.read_at in ("masked", "next") and "text" not in self.inputs:
            yield f"read_at={self.read_at!r} needs a text among the inputs"

    def _wrong_answers(self) -> Iterator[str]:
        if self.temperature not in TEMPERATURES:
            yield f"unknown temperature {self.temperature!r}"
        if self.read_at not in _CANDIDATES_READ_AT:
            yield f"unknown read_at {self.read_at!r}"
        elif self.candidates not in (possible := _CANDIDATES_READ_AT[self.read_at]):
            yield f"read_at={self.read_at!r} goes with candidates {' or '.join(possible)}, not {self.candidates!r}"
        if self.labels and self.candidates != "labels":
            yield "labels go with candidates='labels' only"
        if any(not isinstance(texts, tuple) or not texts for texts in self.labels):
            yield "labels must hold a tuple with at least one text for each class"

    def _wrong_template(self) -> Iterator[str]:
        if self.template is None:
            return
        answered_in_text = self.read_at == "masked" and self.candidates == "labels"
        if "text" not in self.inputs or (self.read_at != "summary" and not answered_in_text):
            yield "a template wraps a text that is only read, and this task has none"
        for slot, wanted in (("{text}", True), ("{answer}", answered_in_text)):
            if self.template.count(slot) != wanted:
                yield f"template must hold {slot} {'once' if wanted else 'nowhere'}"

    @property
    def visual(self) -> str | None:
        """The visual modality among the inputs, if any."""
        return next((modality for modality in self.inputs if KIND_OF_MODALITY[modality] == "visual"), None)

    def facts(self, side: Side, index: int | None = None) -> Facts:
        """What routing may know of this task's sequences on one side."""
        kinds = tuple(dict.fromkeys(KIND_OF_MODALITY[modality] for modality in self.inputs))
        return Facts(side=side, inputs=kinds, targets=(KIND_OF_MODALITY[self.target],), task=index)
