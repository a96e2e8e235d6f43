"""PLACES OF A STEP -> PROCESSES: who makes which batch, as a pure function that every process can compute."""

import heapq
from collections.abc import Sequence


def deal(costs: Sequence[float], size: int) -> list[int]:
    """Give each place of a step to a process: the longest first, each to whoever has least to do so far.

    No number depends on it: a step's gradient is a sum over its places, whoever makes them.

    Args:
        costs: of the places, in any unit; at least as many as processes, so that each gets one.
        size: processes.

    Returns:
        The process of each place.
    """
    waiting = [(0.0, 0, rank) for rank in range(size)]  # cost so far, places so far, process
    ranks = [0] * len(costs)
    for place in sorted(range(len(costs)), key=lambda place: (-costs[place], place)):
        cost, count, rank = waiting[0]
        heapq.heapreplace(waiting, (cost + costs[place], count + 1, rank))
        ranks[place] = rank
    return ranks


def idle_share(costs: Sequence[float], size: int) -> float:
    """Compute the share of the processes' time in which they wait for the slowest of a step."""
    loads = [0.0] * size
    for cost, rank in zip(costs, deal(costs, size), strict=True):
        loads[rank] += cost
    return 1.0 - sum(loads) / (size * max(loads)) if max(loads) else 0.0
