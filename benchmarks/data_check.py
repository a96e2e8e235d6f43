"""500 broken samples among 100,000 good ones: `uniperceiver data check` must find these, and no other.

python -m benchmarks.data_check [--samples 100000] [--faults 500] [--workers N] [--json FILE]. Six data sets with faults
of 31 kinds are written into a temporary folder, checked as the command checks them, and removed. The exit code is 1
where a fault is not found, or something else is named.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.faulty_data import KINDS
from uniperceiver.cli.data import processes
from uniperceiver.config import parse_recipe
from uniperceiver.data.prepare.check import DataReport, check_data
from uniperceiver.serving.locate import model_folder
from uniperceiver.streams import numpy_stream

# Of 20; clips take twenty times as long as pictures.
_SHARES = {"pictures": 8, "captions": 3, "shards": 5, "lines": 2, "rows": 1, "clips": 1}

Planted = dict[tuple[str, str], str]  # a part of the reason by set and sample


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was planted, and what was found."""

    samples: int
    planted: int
    kinds: int
    named: int
    missed: tuple[str, ...]
    wrong: tuple[str, ...]  # good samples that were named, and bad ones with another reason
    workers: int
    minutes: float

    @property
    def exact(self) -> bool:
        """Whether every fault was found, and nothing else."""
        return not self.missed and not self.wrong


def plant(folder: Path, samples: int, faults: int) -> Planted:
    """Write all sets, with faults of every kind in turn at random places."""
    planted: Planted = {}
    names = list(KINDS)
    turns = {name: list(KINDS[name].faults) for name in names}
    kinds = [(name, fault) for name in names for fault in turns[name]]
    of_set: dict[str, list[str]] = {name: [] for name in names}
    for place in range(faults):
        name, fault = kinds[place % len(kinds)]
        of_set[name].append(fault)
    for name, kind in KINDS.items():
        count = samples * _SHARES[name] // sum(_SHARES.values())
        rng = numpy_stream(0, "faults", name)
        places = rng.choice(count, size=len(of_set[name]), replace=False).tolist()
        where = dict(zip(places, of_set[name], strict=True))
        for index, sample in kind.write(folder / name, count, where).items():
            planted[name, sample] = kind.faults[where[index]]
    return planted


def recipe_of(names: Mapping[str, Any] = KINDS) -> dict[str, Any]:
    """A recipe on these sets; each is there to train on and to be evaluated on."""
    return {"tasks": {name: {**KINDS[name].task, "train": dict(KINDS[name].source)} for name in names}}


def compare(report: DataReport, planted: Planted, workers: int, minutes: float) -> Result:
    """What of the planted faults a report names, and what else."""
    named = {
        (data_set.used_by[0].partition("/")[0], fault.sample): fault.reason
        for data_set in report.sets
        for fault in data_set.faults
    }
    wrong = [
        f"{name}: {sample}: {reason}"
        for (name, sample), reason in named.items()
        if planted.get((name, sample), "\0").lower() not in reason.lower()
    ]
    wrong += [f"{data_set.used_by[0]}: twice {name}" for data_set in report.sets for name in data_set.named_twice]
    return Result(
        samples=report.samples,
        planted=len(planted),
        kinds=sum(len(kind.faults) for kind in KINDS.values()),
        named=len(planted.keys() & named.keys()),
        missed=tuple(f"{name}: {sample}" for name, sample in sorted(planted.keys() - named.keys())),
        wrong=tuple(wrong),
        workers=workers,
        minutes=minutes,
    )


def run(samples: int, faults: int, workers: int, *, quiet: bool = False) -> Result:
    """Plant and check in a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="uniperceiver-data-check-"))
    try:
        planted = plant(folder, samples, faults)
        start = time.monotonic()
        report = check_data(
            parse_recipe(recipe_of(), {}, "benchmark"), folder, workers, find_model=model_folder, quiet=quiet
        )
        return compare(report, planted, workers, (time.monotonic() - start) / 60)
    finally:
        shutil.rmtree(folder)


def main() -> int:
    """Print the result; 0 where it is exact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    result = run(options.samples, options.faults, processes(options.workers))
    print(f"{result.named} of {result.planted} faults of {result.kinds} kinds found in {result.samples:,} samples")
    print(f"{len(result.wrong)} wrong; {result.workers} processes, {result.minutes:.1f} minutes")
    for line in (*result.missed, *result.wrong):
        print(line)
    if options.json:
        Path(options.json).write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
    return 0 if result.exact else 1


if __name__ == "__main__":
    raise SystemExit(main())
