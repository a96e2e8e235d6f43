"""Whether interference between the tasks is measured while they are trained."""

from pydantic import Field, PositiveInt

from uniperceiver.strict import record


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
