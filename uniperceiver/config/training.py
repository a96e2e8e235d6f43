"""How the weights are trained, and what is measured, saved and logged meanwhile."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from uniperceiver.strict import record

_Share = Annotated[float, Field(ge=0, lt=1)]


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
