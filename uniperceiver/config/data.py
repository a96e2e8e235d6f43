"""The tasks of a run and how their samples are read."""

from typing import Any, Literal

from pydantic import Field, PositiveInt

from uniperceiver.strict import record


@record
class AugmentConfig:
    """Augmentation of images, clips and sounds in training; each part is off at its default."""

    crop: float = Field(default=1.0, gt=0, le=1)
    """Smallest share of the area that a random resized crop keeps; 1: resize and centre crop."""
    flip: float = Field(default=0.0, ge=0, le=1)
    """Probability of a horizontal flip; captions and labels that say "left" or "right" are then untrue."""
    flip_vertical: float = Field(default=0.0, ge=0, le=1)
    """Probability of a vertical flip, for pictures without an upside."""
    colour: float = Field(default=0.0, ge=0, le=1)
    """Strength of random brightness and contrast: each is multiplied by 1 - colour to 1 + colour."""
    keep: float = Field(default=0.3, gt=0, le=1)
    """Least share of a thing's box that a crop must leave; of which less is left, that thing is not learnt there."""
    randaugment: int = Field(default=0, ge=0)
    """Number of RandAugment operations per image."""
    magnitude: int = Field(default=9, ge=0, le=10)
    """RandAugment magnitude."""
    erasing: float = Field(default=0.0, ge=0, le=1)
    """Probability of erasing a random rectangle."""
    mixup: float = Field(default=0.0, ge=0)
    """Alpha of mixup (soft targets over label candidates)."""
    cutmix: float = Field(default=0.0, ge=0)
    """Alpha of cutmix; with mixup also on, each batch draws one of the two."""
    gain: float = Field(default=0.0, ge=0, le=60)
    """Sounds: decibels by which they are made louder or softer at most."""
    noise: float = Field(default=0.0, ge=0, le=1)
    """Sounds: probability of white noise, 10 to 30 dB below them."""
    mask_time: float = Field(default=0.0, ge=0, le=1)
    """Sounds: largest share of the frames that is blanked, in one piece, as in SpecAugment."""
    mask_mels: float = Field(default=0.0, ge=0, le=1)
    """Sounds: largest share of the bands of a spectrogram that is blanked, in one piece."""


@record
class LateConfig:
    """What changes for the last part of a run: two-stage resolution, or tasks that are learnt first."""

    size: PositiveInt | None = None
    """Pixels along an image's side."""
    frames: PositiveInt | None = None
    """Frames per clip."""
    batch: PositiveInt | None = None
    """Samples per batch."""
    weight: float | None = Field(default=None, gt=0)
    """Sampling weight relative to the other tasks."""


@record
class ShapeConfig:
    """A shape that batches of a task may have in training; what is left out is as in the task."""

    weight: float = Field(default=1.0, gt=0)
    """How often it is drawn, relative to the other shapes of the task."""
    size: PositiveInt | None = None
    """Pixels along an image's side."""
    frames: PositiveInt | None = None
    """Frames per clip."""
    stride: PositiveInt | None = None
    """Distance between the frames that are taken from a clip."""
    seconds: float | None = Field(default=None, gt=0, le=14400)
    """Of a sound that are heard."""
    hop: float | None = Field(default=None, gt=0)
    """Milliseconds from one frame of a spectrogram to the next."""
    length: PositiveInt | None = None
    """Longest text in tokens."""
    drop: float | None = Field(default=None, ge=0, lt=1)
    """DropToken: share of the patches that are left out."""
    batch: PositiveInt | None = None
    """Samples per batch; None: those of the task, or as many as `sampling.tokens` holds."""


@record
class TaskConfig:
    """One task of the run: a kind of the catalogue and the data it is trained and evaluated on."""

    kind: str
    """A name of the task catalogue, such as image_classification; `uniperceiver info` lists them."""
    train: dict[str, Any] | None = None
    """Source of training samples: {format: ..., path: ..., ...}; docs/data.md has a section per format."""
    val: dict[str, Any] | None = None
    """Source of samples evaluated during and after training."""
    test: dict[str, Any] | None = None
    """Source of samples for the final evaluation."""
    batch: PositiveInt = 32
    """Samples per batch."""
    weight: float | None = Field(default=None, gt=0)
    """Sampling weight relative to the other tasks; None: size ** sampling.alpha."""
    negatives: Literal["batch", "step"] = "batch"
    """Retrieval: step: a text is compared with those of all batches of the task in the step, of all processes."""
    loss_weight: float = Field(default=1.0, gt=0)
    """Factor on this task's loss."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target that is spread over all candidates."""
    size: PositiveInt = 64
    """Pixels along an image's side after resizing and cropping."""
    fit: Literal["crop", "squash"] | None = None
    """What of a picture becomes the square: its central square, or all of it, squashed; None: squash for a kind that
    is about the things in a picture, else crop."""
    frames: PositiveInt = 4
    """Frames per clip."""
    stride: PositiveInt = 1
    """Distance between the frames that are taken from a clip."""
    seconds: float = Field(default=5.12, gt=0, le=14400)  # no longer sound is read
    """Of a sound that are heard: whole patches of `hop`; around shorter ones there is silence."""
    hop: float = Field(default=32, gt=0)
    """Milliseconds from one frame of a spectrogram to the next; speech: 10."""
    length: PositiveInt = 64
    """Longest text in tokens; longer ones are cut, keeping the end token."""
    drop: float = Field(default=0.0, ge=0, lt=1)
    """DropToken: share of the patches of a picture, clip or sound that are left out in training, drawn anew for every
    sample; the others keep their positions, and whatever is measured or asked has all of them."""
    template: str | None = None
    """Text classification: a text with {text} and {answer}; the answer is read at {answer}."""
    labels: dict[str, str | list[str]] | None = None
    """Text (or several texts) for each class name of the source."""
    prompts: list[str] = Field(default_factory=list)
    """Texts with {label} in the place of a class's text, such as "a sound of {label}": one is drawn in training, all
    are averaged later. Retrieval: captions are made of them, and samples of one class share theirs."""
    evaluation_prompts: list[str] = Field(default_factory=list)
    """Prompts that take their place in evaluation and answers; none: the same as in training."""
    class_term: Literal["softmax", "sigmoid", "background"] = "softmax"
    """How names of things are learnt. softmax: among the names, where a thing is (v2); sigmoid: each name is a yes
    or no of its own, also where there is none; background: among the names and a text for nothing."""
    objectness: Literal["focal", "iou"] = "focal"
    """What a proposal learns beside its name. focal: whether it is a thing; iou: how far its box overlaps the thing."""
    augment: AugmentConfig = AugmentConfig()
    """Augmentation in training."""
    late: LateConfig = LateConfig()
    """Other sizes, or another weight, for the last part of the run, from `late_from` on."""
    shapes: list[ShapeConfig] = Field(default_factory=list)
    """Shapes of training batches, of which one is drawn by weight for every draw of the task; none: the task's own
    sizes, which evaluation and prediction always have."""
    lr: float = Field(default=1.0, gt=0)
    """Factor on the learning rate in steps of this task, of a recipe whose steps have one task each."""


@record
class CandidateConfig:
    """How the vocabulary is used as a candidate set in training."""

    sample: int = Field(default=0, ge=0)
    """Number of vocabulary entries drawn per batch beside the batch's own targets; 0: the whole vocabulary."""
    share: Literal["batch", "step"] = "batch"
    """step: names of classes and the whole vocabulary are encoded once for all batches of a task in a step, by all
    processes together, instead of once for each batch (docs/parallel.md)."""


@record
class DataConfig:
    """How samples are read."""

    workers: int = Field(default=1, ge=0)
    """Loader processes; the samples and their order are the same for any number."""
    max_broken: float = Field(default=0.001, ge=0, le=1)
    """Share of a set that may be broken; more than max(1, share x size) stops the run."""
    megapixels: float = Field(default=40, gt=0, le=178)
    """Most megapixels of an image, or of a clip's frame, as it is decoded. JPEG files of up to 8 times as many are
    decoded at 1/2, 1/4 or 1/8 of their size, HEIC files of up to 2 times as many at 1/2; others are broken samples."""
    decode: Literal["full", "draft"] = "full"
    """draft: JPEG files are decoded at 1/2, 1/4 or 1/8 of their size where that leaves twice the pixels of a view, in
    training and ever after: of 12 megapixels in a ninth of the time (docs/performance.md)."""
