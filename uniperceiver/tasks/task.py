"""A task: a question of the form *which candidate is most likely, given this input?*, declared in one record."""

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


@dataclass(frozen=True, kw_only=True)
class Task:
    """A question over an input and a set of candidate answers; everything else is derived from it.

    Raises:
        ValueError: the fields contradict each other.
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
        if unknown := {*self.inputs, self.target} - set(KIND_OF_MODALITY):
            raise ValueError(f"task {self.name!r}: unknown modality {sorted(unknown)[0]!r}")
        if self.temperature not in TEMPERATURES:
            raise ValueError(f"task {self.name!r}: unknown temperature {self.temperature!r}")
        if self.labels and self.candidates != "labels":
            raise ValueError(f"task {self.name!r}: labels go with candidates='labels' only")
        if self.read_at != "summary" and "text" not in self.inputs:
            raise ValueError(f"task {self.name!r}: read_at={self.read_at!r} needs a text among the inputs")
        if self.read_at == "next" and self.candidates != "vocabulary":
            raise ValueError(f"task {self.name!r}: read_at='next' generates words: candidates='vocabulary'")
        if self.template is not None:
            self._check_template(self.template)

    def _check_template(self, template: str) -> None:
        answered_in_text = self.read_at == "masked" and self.candidates == "labels"
        for slot, wanted in (("{text}", True), ("{answer}", answered_in_text)):
            if (template.count(slot) == 1) != wanted or template.count(slot) > 1:
                raise ValueError(f"task {self.name!r}: template must hold {slot} {'once' if wanted else 'nowhere'}")

    @property
    def visual(self) -> str | None:
        """The visual modality among the inputs, if any."""
        return next((modality for modality in self.inputs if KIND_OF_MODALITY[modality] == "visual"), None)

    def facts(self, side: Side, index: int | None = None) -> Facts:
        """What routing may know of this task's sequences on one side."""
        kinds = tuple(dict.fromkeys(KIND_OF_MODALITY[modality] for modality in self.inputs))
        return Facts(side=side, inputs=kinds, targets=(KIND_OF_MODALITY[self.target],), task=index)
