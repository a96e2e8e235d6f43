"""Peak memory of a training step, counted by torch's profiler."""

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile

from benchmarks.moe_parts import Training


def peak_bytes(training: Training, step: Callable[[], object]) -> int:
    """The most bytes that torch holds in a step: weights, moments and all the rest; a step was made before."""
    before = sum(each.nbytes for each in training.encoder.parameters())
    before += sum(value.nbytes for state in training.optimiser.state.values() for value in state.values())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    assert profiled.profiler is not None
    changes = [each for each in profiled.profiler.kineto_results.events() if each.name() == "[memory]"]
    now = most = before
    for change in sorted(changes, key=lambda each: each.start_ns()):
        now += change.nbytes()
        most = max(most, now)
    return most
