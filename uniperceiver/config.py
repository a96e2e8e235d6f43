"""Every knob of a run. A recipe is YAML over these dataclasses; the same dataclasses are the Python way."""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from uniperceiver.strict import record

_Share = Annotated[float, Field(ge=0, lt=1)]


@record
class ModelConfig:
    """The size and the vocabulary of the model."""

    size: Literal["nano", "tiny", "small", "base", "large"] = "nano"
    """A named size; `docs/method.md` lists width, layers, heads of each."""
    vocabulary: PositiveInt | Annotated[str, Field(strict=True)] = 2000
    """A number: a byte-level BPE of that many entries is trained on the recipe's own texts. A path: an existing
    tokenizer.json, or the CLIP vocabulary file (bpe_simple_vocab_16e6.txt.gz)."""
    lowercase: bool = True
    """Lower-case texts before the BPE that is trained here."""
    patch: PositiveInt | None = None
    """Pixels along a patch's side; None: 8 for nano, 16 for the others."""
    patch_frames: PositiveInt = 1
    """Frames in a patch. 1, as the original: motion is found by attention; 2 or more: a token sees it, which small
    models on little data learn far sooner."""
    width: PositiveInt | None = None
    """Overrides the width of the named size."""
    layers: PositiveInt | None = None
    """Overrides the number of layers of the named size."""
    heads: PositiveInt | None = None
    """Overrides the number of attention heads of the named size."""
    max_text: PositiveInt = 512
    """Rows of the text position table: no text part may be longer."""
    max_frames: PositiveInt = 8
    """Rows of the temporal position table; longer clips are interpolated."""
    layer_scale: float = 0.1
    """Initial value of LayerScale (the original release starts at 0.001, for much longer runs)."""
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping a branch of a layer, per sample, in training."""
    frame_offset: bool = True
    """Training clips start at a random row of the temporal table, drawn per batch."""


@record
class OptimiserConfig:
    """AdamW with warm-up and cosine decay."""

    lr: float = Field(default=1e-3, gt=0)
    """Peak learning rate."""
    min_lr: float = Field(default=1e-6, ge=0)
    """Learning rate at the last step."""
    warmup: int = Field(default=100, ge=0)
    """Steps of linear warm-up."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Decay of matrices; norms, biases, embeddings, LayerScale and temperatures have none."""
    betas: tuple[_Share, _Share] = (0.9, 0.95)
    """AdamW's decay rates of the two moments."""
    eps: float = Field(default=1e-6, gt=0)
    """AdamW's epsilon."""
    clip: float = Field(default=1.0, ge=0)
    """Global gradient norm above which gradients are scaled down; 0: no clipping."""
    accumulate: PositiveInt = 1
    """Batches of the same kind whose gradients are added before an update."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Autocast type of the forward pass; parameters, gates and likelihoods stay float32."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay of an exponential moving average of the weights, warmed up; 0: none. With it, the average is what is
    evaluated and saved as the run's model."""
    compile: bool = False
    """torch.compile the encoder's blocks."""


@record
class SamplingConfig:
    """Which task is trained when."""

    mode: Literal["mixed", "unmixed"] = "mixed"
    """mixed: each step draws `tasks_per_step` task batches with replacement and averages their gradients;
    unmixed: one task per step, with the same number of batches."""
    tasks_per_step: PositiveInt = 2
    """Task batches in a step."""
    alpha: float = Field(default=0.5, ge=0)
    """Tasks without an explicit weight are drawn in proportion to (size of the training set) ** alpha."""


@record
class AugmentConfig:
    """Augmentation of images and clips in training; each is off at 0."""

    crop: float = Field(default=1.0, gt=0, le=1)
    """Smallest share of the area that a random resized crop keeps; 1: resize and centre crop."""
    flip: float = Field(default=0.0, ge=0, le=1)
    """Probability of a horizontal flip."""
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


@record
class LateConfig:
    """What changes for the last part of a run (two-stage resolution)."""

    size: PositiveInt | None = None
    """Pixels along an image's side."""
    frames: PositiveInt | None = None
    """Frames per clip."""
    batch: PositiveInt | None = None
    """Samples per batch."""


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
    loss_weight: float = Field(default=1.0, gt=0)
    """Factor on this task's loss."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target that is spread over all candidates."""
    size: PositiveInt = 64
    """Pixels along an image's side after resizing and cropping."""
    frames: PositiveInt = 4
    """Frames per clip."""
    stride: PositiveInt = 1
    """Distance between the frames that are taken from a clip."""
    length: PositiveInt = 64
    """Longest text in tokens; longer ones are cut, keeping the end token."""
    template: str | None = None
    """Text classification: a text with {text} and {answer}; the answer is read at {answer}."""
    labels: dict[str, str | list[str]] | None = None
    """Text (or several texts) for each class name of the source."""
    augment: AugmentConfig = AugmentConfig()
    """Augmentation in training."""
    late: LateConfig = LateConfig()
    """Other sizes for the last part of the run, from `late_from` on."""


@record
class CandidateConfig:
    """How the vocabulary is used as a candidate set in training."""

    sample: int = Field(default=0, ge=0)
    """Number of vocabulary entries drawn per batch beside the batch's own targets; 0: the whole vocabulary."""


@record
class DataConfig:
    """How samples are read."""

    workers: int = Field(default=1, ge=0)
    """Loader processes; the samples and their order are the same for any number."""
    max_broken: float = Field(default=0.001, ge=0, le=1)
    """Share of a set that may be broken; more than max(1, share x size) stops the run."""


@record
class EvaluationConfig:
    """What is measured during and after training."""

    every: int = Field(default=500, ge=0)
    """Steps between evaluations of the validation splits; 0: only at the end."""
    limit: int = Field(default=256, ge=0)
    """Samples per split in evaluations during training; 0: all. The final evaluation takes all of val and test."""
    train_limit: int = Field(default=512, ge=0)
    """Samples of each training split in the final evaluation; 0: all."""
    batch: PositiveInt = 64
    """Samples per batch."""
    beam: PositiveInt = 1
    """Beams of caption generation; 1 is greedy."""
    max_words: PositiveInt = 20
    """Most tokens in a generated caption."""


@record
class CheckpointConfig:
    """What is saved when."""

    every: PositiveInt = 500
    """Steps between checkpoints."""
    keep: PositiveInt = 2
    """How many of the newest checkpoints stay, beside the best."""


@record
class LogConfig:
    """What is written down while training."""

    every: PositiveInt = 20
    """Steps between lines of log.jsonl."""
    tensorboard: bool | Literal["auto"] = "auto"
    """Also write TensorBoard events (needs the package tensorboard); auto: if that is installed."""


@record
class Recipe:
    """A whole run."""

    tasks: dict[str, TaskConfig] = Field(min_length=1)
    """The tasks, by a name of your choice."""
    seed: int = 0
    """Everything random in the run is a function of this number and the step."""
    steps: PositiveInt = 1000
    """Updates of the weights."""
    threads: int = Field(default=0, ge=0)
    """CPU threads; 0: torch's choice. Bitwise equal results need equal thread counts."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes the first accelerator."""
    late_from: float = Field(default=0.9, ge=0, le=1)
    """Share of the steps after which the tasks' `late` sizes hold."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    sampling: SamplingConfig = SamplingConfig()
    candidates: CandidateConfig = CandidateConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
