"""How the weights are trained, and what is measured, saved and logged during training."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from uniperceiver.strict import record

_Share = Annotated[float, Field(ge=0, lt=1)]


@record
class OptimiserConfig:
    """The optimiser, with warm-up and cosine decay."""

    kind: Literal["adamw", "muon"] = "adamw"
    """adamw; or muon for the matrices of the encoder and the kernels of a stem, and AdamW for all others."""
    lr: float = Field(default=1e-3, gt=0)
    """Peak learning rate."""
    min_lr: float = Field(default=1e-6, ge=0)
    """Learning rate at the last step."""
    warmup: int = Field(default=100, ge=0)
    """Steps of linear warm-up."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Decay of matrices; norms, biases, embeddings, LayerScale and temperatures have none."""
    muon_lr: float = Field(default=3.0, gt=0)
    """muon: learning rate of what it updates, in multiples of `lr`."""
    gate_lr: float = Field(default=1.0, gt=0)
    """Learning rate of gates, in multiples of `lr`."""
    backbone_lr: float = Field(default=1.0, gt=0)
    """Learning rate of a backbone with weights from elsewhere (model.regions.backbone), in multiples of `lr`."""
    betas: tuple[_Share, _Share] = (0.9, 0.95)
    """AdamW's decay rates of the two moments."""
    eps: float = Field(default=1e-6, gt=0)
    """AdamW's epsilon."""
    clip: float = Field(default=1.0, ge=0)
    """Global gradient norm above which gradients are scaled down; 0: no clipping."""
    accumulate: PositiveInt = 1
    """Batches of a task whose gradients are added before an update, each weighed by its known answers."""
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Autocast type of the forward pass; parameters, gates and likelihoods stay float32. auto: bfloat16 where the
    device has instructions for it, else float32."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay of an exponential moving average of the weights, warmed up; 0: none. With it, the average is what is
    evaluated and saved as the run's model."""
    compile: bool | Literal["shapes"] = False
    """torch.compile the encoder's blocks: true, for sizes of any kind; shapes: a graph for each combination of sizes,
    for recipes that have few of them (sampling.round)."""
    recompute: bool = False
    """Activation checkpointing: of each layer only the input is kept for the backward pass, which computes the layer
    again. Much less memory for about a third more time; nothing else changes, so a resumed run may set it."""


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
    order: Literal["random", "even"] = "random"
    """How tasks follow each other. random: independent draws; even: by the golden ratio, so that after any number of
    steps each has nearly its share, and a rare one never waits long."""
    tokens: int = Field(default=0, ge=0)
    """Tokens of the inputs of a batch, as they are counted before anything is read: a batch has as many samples as
    these hold, instead of `tasks.NAME.batch`; 0: the tasks say how many."""
    round: PositiveInt = 1
    """Texts of a batch are padded to a multiple of so many tokens, so that few lengths occur."""


@record
class TaskBalanceConfig:
    """What makes one update of several tasks; a key is read by the methods that its sentence names."""

    method: str = "fixed"
    """fixed: the mean of the draws, each times its task's `loss_weight`. The others: docs/balancing.md; or one of your
    own."""
    window: PositiveInt = 1
    """With unmixed sampling: draws of tasks, one after the other at the same weights, that make one update."""
    lr: float = Field(default=0.025, gt=0)
    """uncertainty, gradnorm, famo: Adam's learning rate of the learnt weights."""
    restoring: float = Field(default=1.5, ge=0)
    """gradnorm: the exponent α; the larger, the more a task that learns slowly is helped."""
    temperature: float = Field(default=2.0, gt=0)
    """dwa: the temperature T; the larger, the more alike the weights."""
    period: PositiveInt = 100
    """dwa: steps whose losses are averaged before two averages are compared."""
    radius: float = Field(default=0.5, ge=0)
    """cagrad: c, how far from the mean gradient the update may be, in lengths of the mean gradient."""
    decay: float = Field(default=0.01, ge=0)
    """famo: γ, which pulls the weights back towards equal ones."""
    floor: float = Field(default=0.05, ge=0, le=1)
    """tbgn: the least sampling ratio that the optimiser divides by, against spikes of rare tasks; 0: none."""
    cap: float = Field(default=2.0, ge=0)
    """tbgn: limit of the root mean square of m / (sqrt(n) + ε) in each parameter tensor; 0: none."""


@record
class EvaluationConfig:
    """What is measured during and after training."""

    every: int | None = Field(default=None, ge=0)
    """Steps between evaluations of the validation splits; None: a tenth of the run's steps, 10 at least; 0: none."""
    limit: int = Field(default=256, ge=0)
    """Samples per split in evaluations during training, the same ones each time and in every run; 0: all. It does not
    shorten the final evaluation, which takes all of val and test."""
    train_limit: int = Field(default=512, ge=0)
    """Samples of each training split in the final evaluation, drawn alike; 0: all."""
    batch: PositiveInt = 64
    """Samples per batch."""
    clips: PositiveInt = 1
    """Parts of a clip or sound that classification and retrieval look at, spread evenly, their logits averaged; 1: the
    middle."""
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
    best: str = "score"
    """What the best checkpoint is best by, of the evaluations during training: score, the mean loss of all tasks; or
    TASK/METRIC, such as things/accuracy@1."""


@record
class LogConfig:
    """What is written down while training."""

    every: PositiveInt = 20
    """Steps between lines of log.jsonl."""
    trackers: list[str] = Field(default_factory=list)
    """Names of trackers, which are told every line of log.jsonl: of those that a file of your own (`import`) enters."""
    tensorboard: bool | Literal["auto"] = "auto"
    """Also write TensorBoard events (needs the package tensorboard); auto: if that is installed."""


@record
class ParallelConfig:
    """How several processes train together (docs/parallel.md); all of it may change when a run goes on."""

    shard: int = Field(default=1, ge=0)
    """Processes that hold one copy of weights, gradients and moments together, by FSDP2; 0: all of them; 1: each has
    all."""
    timeout: float = Field(default=600.0, gt=0)
    """Seconds after which a process that does not answer counts as lost."""


@record
class InterferenceConfig:
    """Measuring during training which task helps or hurts which (docs/interference.md)."""

    watch: bool = False
    """Measure while training. A mixed step of two batches or more uses the gradients that it computes anyway; else
    each measurement computes some of its own."""
    every: PositiveInt = 200
    """Steps from one measurement to the next."""
    batches: int = Field(default=10, ge=2)
    """Batches of each task for a measurement that has to compute gradients of its own."""
    parameters: str = "encoder.blocks.*.ffn.linear2.weight"
    """Whose gradients are compared: a parameter's name or the beginning of one, `*` for any part between dots; each
    different beginning is measured by itself. The default is the second FFN matrix of every layer."""
