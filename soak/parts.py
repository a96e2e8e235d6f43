"""The long trials: each is a list of named cases, each case a record of what came of it."""

import errno
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from soak import disk, kills, processes, resume, serving
from soak.drill import STEPS, drill
from soak.endurance import endurance
from soak.fuzz import fuzz

Record = dict[str, Any]  # with "good"
Case = tuple[str, Callable[[], Record]]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One trial."""

    title: str
    cases: Callable[[Path], Iterator[Case]]  # of a folder for its runs
    sums_up: Callable[[list[Record]], str]  # what is said of the records beside how many are good


def _resume(folder: Path) -> Iterator[Case]:
    @cache
    def expected(mode: str, model: str) -> str:
        return resume.uninterrupted(folder / f"{mode} {model}", mode, model)

    def run(cell: tuple[str, str, str, str]) -> Record:
        return {"good": resume.stopped(folder / " ".join(cell), *cell) == expected(*cell[2:])}

    for cell in resume.cells():
        yield "/".join(cell), partial(run, cell)


def _kills(folder: Path) -> Iterator[Case]:
    def run(chain: int) -> Record:
        outcome = kills.killed_run(folder / f"chain {chain}", 40, workers=chain % 2, seed=chain)
        good = outcome.equal and outcome.continued == outcome.kills and outcome.most_lost <= kills.EVERY
        return {"good": good, **asdict(outcome)}

    for chain in range(5):
        yield f"chain {chain}", partial(run, chain)


def _terminations(folder: Path) -> Iterator[Case]:
    rng = np.random.default_rng(0)

    def run(name: str, place: str, delay: float, step: int, workers: int) -> Record:
        outcome = kills.terminated(folder / name, place, delay, step, workers)
        return {"good": outcome.good, **asdict(outcome)}

    for number in range(6):
        for place in kills.PLACES:
            step = 0 if place == "first step" else int(rng.integers(1, 6))
            delay, name = float(rng.uniform(0, 0.05)), f"{place} {number}"
            yield name, partial(run, name, place, delay, step, number % 2)


def _calls(folder: Path) -> Iterator[Case]:
    trial = cache(lambda: disk.Trial(folder))
    calls = cache(lambda: disk.count_calls(trial()))

    def run(error: int, number: int, for_good: bool) -> Record:
        if number > calls():
            return {"good": True, "beyond": True}
        (failure,) = disk.failing_calls(trial(), error, iter([number]), for_good=for_good)
        return {"good": failure.good, **asdict(failure)}

    for number in range(1, 100):
        yield f"ENOSPC from call {number} on", partial(run, errno.ENOSPC, number, True)
    for error in disk.ERRORS[1:]:
        for number in range(1, 100, 5):
            yield f"{errno.errorcode[error]} at call {number}", partial(run, error, number, False)


def _full(folder: Path) -> Iterator[Case]:
    def run() -> Record:
        failures = disk.full_disk(disk.Trial(folder), 24)
        if failures is None:
            return {"good": False, "why": "no file system can be mounted here"}
        return {"good": all(failure.good for failure in failures), "cases": [asdict(failure) for failure in failures]}

    yield "24 sizes and read-only", run


def _damages(folder: Path) -> Iterator[Case]:
    def run() -> Record:
        damages = list(disk.damages(disk.Trial(folder), truncations=20, flips=100))
        detected, fell_back = (sum(getattr(damage, name) for damage in damages) for name in ("detected", "fell_back"))
        return {"good": detected == fell_back == len(damages), "detected": detected, "fell_back": fell_back}

    yield "20 truncations, 100 flipped bits", run


def _endurance(folder: Path) -> Iterator[Case]:
    def run() -> Record:
        measured = endurance(folder / "long", 20_000)
        return {"good": measured.slope <= 1.0 and measured.files[0] == measured.files[1], **asdict(measured)}

    yield "20,000 steps", run


def _serving(folder: Path) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    yield "10,000 requests", partial(serving.long_load, folder, 10_000)
    for number in range(30):
        yield f"SIGTERM {number}", partial(serving.terminated, folder, float(rng.uniform(0, 2)))
    yield "20 engines killed", partial(serving.killed_engines, folder, 20)
    yield "200 slow clients", partial(serving.slow_clients, folder, 200)
    yield "a picture of 40 megapixels", partial(serving.large_picture, folder)

    def fuzzed() -> Record:
        with serving.running(folder) as (served, _):
            count = fuzz(served.url, 300)
            return {"good": not any("Traceback" in line for line in served.lines), "asked": count}

    yield "requests that the description allows, and others", fuzzed


def _of_kills(records: list[Record]) -> str:
    kills_, in_a_save, continued = (
        sum(record[name] for record in records) for name in ("kills", "in_a_save", "continued")
    )
    lost, steps = max(record["most_lost"] for record in records), sum(record["steps"] for record in records)
    return (
        f"{kills_} kills, {in_a_save} of them while something was being written; {continued} went on from a whole "
        f"checkpoint; at most {lost} steps lost, with {kills.EVERY} between checkpoints; after {steps} steps the final "
        "states are those of runs that nobody killed"
    )


def _of_stops(records: list[Record]) -> str:
    codes = sorted({record["code"] for record in records})
    seconds = max(record["seconds"] for record in records if not record["place"].startswith("waiting"))
    waiting = max((record["seconds"] for record in records if record["place"].startswith("waiting")), default=0.0)
    return f"exit codes {codes}; ended after at most {seconds:.1f} s, waiting for a dead disk {waiting:.1f} s"


def _of_calls(records: list[Record]) -> str:
    tried = [record for record in records if "beyond" not in record]
    went_on = sum(record["code"] == 0 for record in tried)
    return f"{len(tried)} calls that failed: {len(tried) - went_on} times one line and exit code 2, {went_on} harmless"


def _of_full(records: list[Record]) -> str:
    return f"{sum(len(record.get('cases', ())) for record in records)} disks" + "".join(
        f" ({record['why']})" for record in records if "why" in record
    )


def _of_damages(records: list[Record]) -> str:
    return "; ".join(f"{record['detected']} detected, {record['fell_back']} fell back by one" for record in records)


def _of_serving(records: list[Record]) -> str:
    stops = [record["seconds"] for record in records if "begun" in record]
    return f"{len(stops)} times SIGTERM, ended after at most {max(stops, default=0.0):.1f} s"


def _of_endurance(records: list[Record]) -> str:
    return "; ".join(
        f"{record['slope']:+.3f} MB per 1,000 steps, {record['memory'][0]:.0f} to {record['memory'][1]:.0f} MB, "
        f"{record['files'][0]} to {record['files'][1]} open files, "
        f"{record['objects'][0]:,} to {record['objects'][1]:,} objects"
        for record in records
    )


def _processes(folder: Path) -> Iterator[Case]:
    for name, run in processes.cells(folder):
        yield name, lambda run=run: asdict(run())  # type: ignore[misc]


def _of_processes(records: list[Record]) -> str:
    loss, norm = (max(record[name] for record in records) for name in ("loss", "norm"))
    flipped = sum(record["loss"] > 1e-5 for record in records)
    return (
        f"losses of {processes.STEPS} steps within {loss:.1g}, {flipped} times beyond 1e-5 after routing flipped; "
        f"norms of gradients within {norm:.1g}"
    )


def _drills(folder: Path) -> Iterator[Case]:
    for name, shard in (("replicas", 1), ("FSDP2", 0)):
        yield name, lambda name=name, shard=shard: asdict(drill(folder / name, shard))  # type: ignore[misc]


def _of_drills(records: list[Record]) -> str:
    loss, noticed = (max(record[name] for record in records) for name in ("loss", "noticed"))
    return f"{STEPS} steps: losses within {loss:.1g}; a dead process was noticed by all within {noticed:.0f} s"


PARTS = {
    "resume": Part(title="stopped and continued", cases=_resume, sums_up=lambda records: "states equal, bit for bit"),
    "kill": Part(title="kill -9", cases=_kills, sums_up=_of_kills),
    "stop": Part(title="SIGTERM", cases=_terminations, sums_up=_of_stops),
    "calls": Part(title="errors of the disk", cases=_calls, sums_up=_of_calls),
    "full": Part(title="full and read-only disks", cases=_full, sums_up=_of_full),
    "damage": Part(title="damaged checkpoints", cases=_damages, sums_up=_of_damages),
    "processes": Part(title="several processes beside one", cases=_processes, sums_up=_of_processes),
    "drill": Part(title="all that may happen to several processes", cases=_drills, sums_up=_of_drills),
    "serving": Part(title="a server", cases=_serving, sums_up=_of_serving),
    "endurance": Part(title="20,000 steps", cases=_endurance, sums_up=_of_endurance),
}
