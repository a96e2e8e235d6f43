"""FIGURES of a server, as Prometheus reads them."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ITEMS = (1, 2, 4, 8, 16, 32)
_PREFIX = "uniperceiver_"


class Histogram:
    """How many values were at most so large.

    Args:
        bounds: rising.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[next((at for at, bound in enumerate(self._bounds) if value <= bound), -1)] += 1
        self._sum += value

    def lines(self, name: str) -> Iterator[str]:
        """The samples of a histogram of this name."""
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self._sum:.6f}"
        yield f"{name}_count {total}"


@dataclass(kw_only=True)
class Metrics:
    """What is counted while a server runs."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)  # by route and status
    seconds: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    batches: Histogram = field(default_factory=lambda: Histogram(_ITEMS))
    begun: int = 0  # requests whose head was read
    ended: int = 0  # of these: answered, or left by their client
    restarts: int = 0

    def page(self, gauges: Mapping[str, float], resident: Mapping[str, int]) -> str:
        """The text that Prometheus asks for.

        Args:
            gauges: what is so now, by name.
            resident: bytes of memory by process.
        """
        lines = [f"# TYPE {_PREFIX}requests_total counter"]
        for (route, status), count in sorted(self.requests.items()):
            lines.append(f'{_PREFIX}requests_total{{path="{route}",status="{status}"}} {count}')
        for name, histogram in (("request_seconds", self.seconds), ("batch_size", self.batches)):
            lines += [f"# TYPE {_PREFIX}{name} histogram", *histogram.lines(_PREFIX + name)]
        lines += [f"# TYPE {_PREFIX}engine_restarts_total counter", f"{_PREFIX}engine_restarts_total {self.restarts}"]
        for name, value in gauges.items():
            lines += [f"# TYPE {_PREFIX}{name} gauge", f"{_PREFIX}{name} {value:g}"]
        lines.append(f"# TYPE {_PREFIX}process_resident_bytes gauge")
        lines += [f'{_PREFIX}process_resident_bytes{{who="{who}"}} {count}' for who, count in resident.items()]
        return "\n".join(lines) + "\n"


def resident_bytes(process: int) -> int | None:
    """Memory that a process holds; None where the system does not say."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
