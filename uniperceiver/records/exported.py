"""What an exported folder says of itself: which graph answers which task, and how its inputs are made.

Written by `serving/export/`, read by `runner/`, which has no torch; nothing here needs it.
"""

from typing import Any, Literal

from pydantic import Field

from uniperceiver.strict import record

EXPORT_FORMAT = 2  # since things in pictures and sounds are exported; all of 1 is read
EXPORT_FILE = "uniperceiver.json"  # what tells an exported folder from any other
VECTORS_FILE = "labels.safetensors"
# What graphs call pictures (B, C, H, W), clips (B, F, C, H, W) and the grids of sounds (B, F, M), by modality.
MEDIA_INPUTS = {"image": "pixel_values", "video": "pixel_values", "audio": "input_features"}


@record
class ExportedTask:
    """A question that an exported folder answers: a task of the model, or what stands for it in a call without one."""

    name: str
    inputs: tuple[str, ...]
    question: str | None = None
    """The method that asks it: "classify", "caption", "rank", "detect"; None: its media and candidates are encoded."""
    labels: tuple[tuple[str, ...], ...] = ()
    prompts: tuple[str, ...] = ()
    """Texts with {label} in the place of a label's text, over which a class is averaged."""
    template: str | None = None
    read_in_text: bool = False
    """Whether the answer is read at the <SPE> that its template has in the place of {answer}."""
    scale: float
    """exp(temperature): what cosines are multiplied by."""
    view: dict[str, Any]
    """What is made of its inputs: a Preprocess."""
    media_graph: str | None = None
    """File of the graph from its media alone to a representation."""
    input_graph: str | None = None
    """That of all its inputs."""
    text_graph: str | None = None
    """That of candidates."""
    caption_graphs: tuple[str, str] | None = None
    """Those that begin a text, and write a word more."""
    things_graph: str | None = None
    """That of the things in pictures: a representation, objectness, a box and perhaps a mask for each proposal."""
    masks: bool = False
    """Whether its things have masks."""
    class_term: Literal["softmax", "sigmoid", "background"] = "softmax"
    """How the names of its things were learnt: `Task.class_term`."""
    name_bias: float = 0.0
    """What is added to the logit of every name of a thing."""
    vectors: str | None = None
    """Its candidates (labels, or the words of the vocabulary), encoded: a name in labels.safetensors."""
    head: str | None = None
    """A linear head that prompt tuning added: the beginning of its names in labels.safetensors."""
    own_labels_only: bool = False
    """Whether it has parameters for each of its classes, so that other labels mean nothing to it."""
    refused: dict[str, str] = Field(default_factory=dict)
    """Why there is no such graph, by the name of the field above."""


@record
class ExportedGraph:
    """A file of onnx/, and what was measured when it was written."""

    sha256: str
    bytes: int
    difference: float
    """The greatest difference to torch of a value, over the checked inputs."""
    experts: int | None = None
    """Of a model whose experts are chosen by values: different weights of experts in it, all of which must be there."""
    cosine: float | None = None
    """Of a quantised graph: mean cosine to the one in float32."""


@record
class Exported:
    """The file uniperceiver.json."""

    format: int
    library: str
    """Version of the library that wrote it."""
    width: int
    max_text: int
    writes: bool
    """Whether one of the model's tasks writes texts."""
    opset: int
    tasks: dict[str, ExportedTask]
    calls: dict[str, ExportedTask | str]
    """What a call without a task asks, by its name and what it is about ("classify image"); a text: why it cannot."""
    graphs: dict[str, ExportedGraph]
