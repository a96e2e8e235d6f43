"""What clients send and get, as pydantic checks it and OpenAPI describes it."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from uniperceiver.server.http.refusals import Refusal
from uniperceiver.server.settings import Limits

Text = Annotated[str, Field(max_length=65_536)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Input(_Asked):
    """One thing that is asked about: exactly one of the four."""

    image: str | None = Field(None, description="a picture in base64, or as a data: URL")
    video: str | None = Field(None, description="a clip, likewise")
    audio: str | None = Field(None, description="a sound, or a clip whose sound it is, likewise")
    text: Text | None = None


class QuestionBody(_Asked):
    """What all questions have."""

    inputs: list[Input] = Field(min_length=1, description="pictures, clips, sounds or texts")
    task: str | None = Field(None, description="a task of the model; see /v1/model")

    def of_model(self) -> dict[str, Any]:
        """The parameters for the model."""
        return self.model_dump(exclude={"inputs"})

    def texts_beside(self) -> Iterator[tuple[str, str]]:
        """All texts that are candidates or stand beside the inputs, each with its parameter."""
        return iter(())


class ClassifyQuestion(QuestionBody):
    """Which label is most likely?"""

    labels: list[Text | list[Text]] | None = Field(
        None, description="a text, or several, for each; default: the task's"
    )
    template: Text | list[Text] | None = Field(None, description="such as 'a photo of {label}'")
    text: Text | None = Field(None, description="a text beside each input, such as a question about a picture")

    def texts_beside(self) -> Iterator[tuple[str, str]]:
        """As every question."""
        yield from _labels(self.labels)
        templates = [self.template] if isinstance(self.template, str) else self.template or []
        yield from (("template", text) for text in templates)
        yield from (("text", text) for text in [self.text] if text is not None)


class CaptionQuestion(QuestionBody):
    """What does it show?"""

    beam: int = Field(2, ge=1, description="how many beginnings are followed")
    words: int | None = Field(None, ge=1, description="the most tokens of a caption")


class RankQuestion(QuestionBody):
    """How alike are inputs and texts?"""

    texts: list[Text] = Field(min_length=1)

    def texts_beside(self) -> Iterator[tuple[str, str]]:
        """As every question."""
        return (("texts", text) for text in self.texts)


class EmbedQuestion(QuestionBody):
    """Where do the inputs lie?"""

    format: Literal["float", "base64"] = Field("float", description="base64: of float32, little-endian")


class ExpertsQuestion(QuestionBody):
    """Which experts compute the tokens?"""

    text: Text | None = Field(None, description="a text beside each input")

    def texts_beside(self) -> Iterator[tuple[str, str]]:
        """As every question."""
        return (("text", text) for text in [self.text] if text is not None)


class DetectQuestion(QuestionBody):
    """Which things are where?"""

    labels: list[Text | list[Text]] | None = Field(None, description="as for classify")
    least: float = Field(0.3, ge=0, le=1, description="the lowest score of a thing")
    most: int = Field(100, ge=1, le=300, description="things of a picture")

    def texts_beside(self) -> Iterator[tuple[str, str]]:
        """As every question."""
        return _labels(self.labels)


def _labels(labels: list[str | list[str]] | None) -> Iterator[tuple[str, str]]:
    for label in labels or []:
        yield from (("labels", text) for text in ([label] if isinstance(label, str) else label))


def check_texts(question: QuestionBody, limits: Limits) -> None:
    """Refuse more texts than a server takes, and texts that are none.

    Raises:
        Refusal: there are too many, they are too long, or one holds half of a character.
    """
    size = 0
    for count, (param, text) in enumerate(question.texts_beside(), start=1):
        try:
            size += len(text.encode())
        except UnicodeEncodeError:
            raise Refusal(422, "is not valid Unicode; send whole characters", param) from None
        if count > limits.labels:
            raise Refusal(422, f"more than {limits.labels:,} texts; send fewer at once", param)
        if size > limits.label_bytes:
            raise Refusal(422, f"more than {limits.label_bytes:,} bytes together; send fewer or shorter texts", param)


class ErrorText(BaseModel):
    """What is wrong."""

    type: str
    message: str
    param: str | None = None


class ErrorAnswer(BaseModel):
    """A request that was not answered."""

    error: ErrorText


class _Result(BaseModel):
    error: ErrorText | None = Field(None, description="this input could not be used, and has nothing else")


class Probability(BaseModel):
    """A label and how likely it is among all that were given."""

    label: str
    probability: float
    cosine: float


class Classified(_Result):
    """The labels, the most likely first."""

    answer: str | None = None
    scores: list[Probability] = []
    temperature: float | None = Field(None, description="probabilities are the softmax of cosine / temperature")


class Captioned(_Result):
    """A caption."""

    caption: str | None = None


class Cosine(BaseModel):
    """A text and its cosine with the input."""

    text: str
    cosine: float


class Ranked(_Result):
    """The texts, the nearest first."""

    scores: list[Cosine] = []


class Embedded(_Result):
    """A vector of length 1."""

    embedding: list[float] | str | None = None


class Gate(BaseModel):
    """What one gate decided about the tokens of an input."""

    layer: int
    part: str
    gate: int
    shares: list[float] = Field(description="of each expert in all that the tokens got")
    confidence: float = Field(description="mean probability of the first choice")
    tokens: list[int] = Field(description="the expert that gave most, for each token")
    visual: int = Field(description="how many of the tokens, from the first on, are the prefix and patches")


class Routed(_Result):
    """All gates, in the order of the layers."""

    gates: list[Gate] = []


class LocatedThing(BaseModel):
    """A thing in a picture; its box in pixels of the upright picture."""

    label: str
    score: float
    box: list[float] = Field(description="left, top, right, bottom")
    bbox: list[float] = Field(description="left, top, width, height")
    segmentation: dict[str, Any] | None = Field(None, description="its mask, as COCO's compressed run lengths")


class LocateResult(_Result):
    """All things, the surest first."""

    height: int | None = None
    width: int | None = None
    detections: list[LocatedThing] = []


class _Answered(BaseModel):
    model: str
    notes: list[str] = Field([], description="what the model says beside its answers, such as that a text was cut")
    ms: float


class ClassifyAnswer(_Answered):
    """A result for each input."""

    results: list[Classified]


class CaptionAnswer(_Answered):
    """A result for each input."""

    results: list[Captioned]


class RankAnswer(_Answered):
    """A result for each input."""

    results: list[Ranked]


class EmbedAnswer(_Answered):
    """A result for each input."""

    results: list[Embedded]
    width: int


class ExpertsAnswer(_Answered):
    """A result for each input."""

    results: list[Routed]


class LocateAnswer(_Answered):
    """A result for each input."""

    results: list[LocateResult]
