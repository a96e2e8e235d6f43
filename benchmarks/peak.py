"""Peak memory of a training step, counted by torch's profiler."""

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile

from benchmarks.moe_parts import Training


def peak_bytes(training: Training, step: Callable[[], object]) -> int:
    """The most bytes that torch holds in a step: weights, moments and all the rest; a step was made before."""
    before = sum(parameter.nbytes for parameter in training.encoder.parameters())
    before += sum(value.nbytes for state in training.optimiser.state.values() for value in state.values())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    assert profiled.profiler is not None
    changes = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = before
    for change in sorted(changes, key=lambda event: event.start_ns()):
        now += change.nbytes()
        most = max(most, now)
    return most
