"""Peak memory of a training step with merged experts, against what it may take."""

from collections.abc import Iterable

import torch
from torch import Tensor

from benchmarks.harness import BenchmarkRow
from benchmarks.moe_parts import Shape, Training
from benchmarks.peak import peak_bytes

MB = 1e6


def peak_memory(shape: Shape, batch: int, *, rows: int) -> BenchmarkRow:
    """Bytes that torch holds at the worst moment of a step, counted by its profiler: parameters, optimiser state, rest.

    The goal is the peak of the dense model + the parameters of all experts + gradients and optimiser state of the
    experts used so far + a merged copy and its gradient for each row and layer.
    """
    tokens = shape.tokens(batch, rows=rows)
    dense, experts_training = (
        Training(shape.encoder(condition=condition), tokens) for condition in ("shared", "attribute")
    )
    experts = {parameter for name, parameter in experts_training.encoder.named_parameters() if ".experts." in name}
    one_copy = sum(
        parameter.nbytes for name, parameter in experts_training.encoder.named_parameters() if ".experts.0." in name
    )
    peak, dense_peak = _peak(experts_training), _peak(dense)
    used = [parameter for parameter in experts_training.optimiser.state if parameter in experts]
    goal = (
        dense_peak
        + sum(parameter.nbytes for parameter in experts)
        + sum(parameter.nbytes for parameter in used)
        + _state_bytes(experts_training, used)
        + 2 * rows * one_copy
    )
    what = "one row" if rows == 1 else "two rows"
    value = peak / MB
    return BenchmarkRow(
        name=f"moe/attribute train, peak memory/Ti/batch{batch}/threads{torch.get_num_threads()}/{what}",
        value=value,
        unit="MB",
        low=value,
        high=value,
        goal=goal / MB,
        holds=peak <= goal,
        noisy=False,
    )


def _peak(training: Training) -> int:
    """The most bytes in a step, after two others."""
    training.step()
    training.step()
    return peak_bytes(training, training.step)


def _state_bytes(training: Training, parameters: Iterable[Tensor]) -> int:
    return sum(value.nbytes for parameter in parameters for value in training.optimiser.state[parameter].values())
