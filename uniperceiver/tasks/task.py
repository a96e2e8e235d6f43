"""A task: a question of the form *which candidate is most likely, given this input?*, declared in one record."""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from uniperceiver.modalities import MODALITIES, TEXT, kind_of
from uniperceiver.records import Facts, Segment, Side
from uniperceiver.records.regions import ClassTerm, ObjectnessTerm
from uniperceiver.tasks.answers import ANSWERS, AnswerKind, answer_name
from uniperceiver.tasks.prompts import LABEL, filled, wrong_prompt

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


def temperatures_of(tokenizers: Iterable[str]) -> tuple[str, ...]:
    """The families of temperatures of a model with these tokenizers: the original's, and those of added modalities."""
    names = set(tokenizers)
    return (
        *TEMPERATURES,
        *(name for row in MODALITIES.values() if row.tokenizer in names for name in row.temperatures),
    )


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
    inputs: tuple[str, ...]  # different modalities (modalities.py), joined in this order; a text is the last
    candidates: str  # where the possible answers come from: "labels", "vocabulary", "in_batch"
    temperature: str  # one of TEMPERATURES, or of those that its modalities bring
    read_at: str = "summary"  # which positions of the input answer: "summary", "masked", "next", "proposals"
    target: str = TEXT  # modality of the candidates
    labels: tuple[tuple[str, ...], ...] = ()  # texts per class, only with candidates="labels"
    prompts: tuple[str, ...] = ()  # with {label} in the place of a label's text: which training draws
    evaluation_prompts: tuple[str, ...] = ()  # those that answers are averaged over; none: the same
    masks: bool = False  # whether a thing at a proposal has a mask beside its box
    class_term: ClassTerm = "softmax"  # how the name of a proposal is learnt (tasks/localisation/classes.py)
    objectness: ObjectnessTerm = "focal"  # and whether it is a thing, or how far it overlaps that (criterion.py there)
    template: str | None = None  # wraps an input text: "{text}" and, where the answer is read in the text, "{answer}"

    def __post_init__(self) -> None:
        for wrong in (*self._wrong_modalities(), *self._wrong_answers(), *self._wrong_template()):
            raise ValueError(f"task {self.name!r}: {wrong}")

    @property
    def answer(self) -> AnswerKind:
        """Everything that depends on what the candidates are and where the answer is read."""
        return ANSWERS[self.answer_name]

    @property
    def answer_name(self) -> str:
        """The name of that kind in the tables of tasks/answers and evaluation/answers."""
        return answer_name(self.candidates, self.read_at)

    @property
    def media(self) -> tuple[str, ...]:
        """The modalities among the inputs that are not text."""
        return tuple(modality for modality in self.inputs if modality != TEXT)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of inputs and candidates, each once."""
        return tuple(dict.fromkeys((*self.inputs, self.target)))

    @property
    def hears(self) -> bool:
        """Whether sounds are among its inputs or candidates."""
        return any(MODALITIES[modality].tokenizer == "sound" for modality in self.modalities)

    @property
    def visual(self) -> str | None:
        """The first visual modality among the inputs, if any."""
        return next((modality for modality in self.inputs if kind_of(modality) == "visual"), None)

    def class_texts(self, *, training: bool = False) -> tuple[tuple[str, ...], ...]:
        """The texts of each class as they are compared: in the prompts of training, or of evaluation and answers."""
        return filled(self.labels, self.prompts if training else self.evaluation_prompts or self.prompts)

    def facts(self, side: Side, index: int | None = None) -> Facts:
        """What routing may know of this task's sequences on one side."""
        kinds = tuple(dict.fromkeys(map(kind_of, self.inputs)))
        return Facts(side=side, inputs=kinds, targets=(kind_of(self.target),), task=index)

    def to_json(self) -> dict[str, Any]:
        """Plain values for config.json; what came later stands there only where it says something."""
        values = dataclasses.asdict(self)
        later = {
            "prompts": (),
            "evaluation_prompts": (),
            "masks": False,
            "class_term": "softmax",
            "objectness": "focal",
        }
        return {key: value for key, value in values.items() if key not in later or value != later[key]}

    def segments(self, index: int | None = None) -> tuple[Segment, ...]:
        """The segments of the inputs, then those of the candidates, in training, evaluation and generation alike.

        As the tokenizer joins them (tokenizers/join.py): what is seen stands first and is seen by all; text behind it,
        or alone, is causal where its next word is asked for. Each has a single token here, since lengths depend on
        samples: this is what merging needs to know before there is any sequence.

        Args:
            index: the task's index among the tasks of the run.
        """
        inputs, candidates = self.facts("input", index), self.facts("candidate", index)
        causal = self.answer.causal
        return (
            *(
                Segment(start=n, stop=n + 1, kind=kind_of(modality), causal=causal and modality == TEXT, facts=inputs)
                for n, modality in enumerate(self.inputs)
            ),
            Segment(start=0, stop=1, kind=kind_of(self.target), causal=False, facts=candidates),
        )

    def _wrong_modalities(self) -> Iterator[str]:
        inputs: object = self.inputs
        if isinstance(inputs, str):
            yield f"inputs={inputs!r} is a text; give a tuple, such as ({inputs!r},)"
        elif unknown := {*self.inputs, self.target} - set(MODALITIES):
            yield f"unknown modality {sorted(unknown)[0]!r}"
        elif not self.inputs or len(set(self.inputs)) < len(self.inputs) or TEXT in self.inputs[:-1]:
            yield f"inputs={self.inputs!r} must be one or several modalities, each once, a text behind the others"

    def _wrong_answers(self) -> Iterator[str]:
        tokenizers = [row.tokenizer for name in self.modalities if (row := MODALITIES.get(name)) is not None]
        if self.temperature not in temperatures_of(tokenizers):
            yield f"unknown temperature {self.temperature!r}"
        try:
            kind = self.answer
        except ValueError as error:
            yield str(error)
            return
        yield from kind.contradictions(self)
        if self.masks and not kind.reads_objects:
            yield "masks go with read_at='proposals' only"
        for field, usual in (("class_term", "softmax"), ("objectness", "focal")):
            if getattr(self, field) != usual and not kind.reads_objects:
                yield f"{field} goes with read_at='proposals' only"
        if self.labels and not kind.has_labels:
            yield "labels go with candidates='labels' only"
        if (self.prompts or self.evaluation_prompts) and not kind.has_labels:
            yield "prompts go with candidates='labels' only"
        if (wrong := wrong_prompt((*self.prompts, *self.evaluation_prompts))) is not None:
            yield f"prompt {wrong!r} must hold {LABEL} once"
        if any(not isinstance(texts, tuple) or not texts for texts in self.labels):
            yield "labels must hold a tuple with at least one text for each class"

    def _wrong_template(self) -> Iterator[str]:
        if self.template is None:
            return
        if not self.answer.reads_text(self) or self.answer.from_vocabulary:
            yield "a template wraps a text that is only read, and this task has none"
        for slot, times in (("{text}", 1), ("{answer}", int(self.answer.answers_in_text(self)))):
            if self.template.count(slot) != times:
                yield f"template must hold {slot} {'once' if times else 'nowhere'}"
