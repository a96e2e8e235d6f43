"""The long trials: each is a list of named cases, each case a record of what came of it."""

import errno
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from soak import disk, kills, resume
from soak.endurance import endurance

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
        found = kills.killed_run(folder / f"chain {chain}", 40, workers=chain % 2, seed=chain)
        good = found.equal and found.continued == found.kills and found.most_lost <= kills.EVERY
        return {"good": good, **asdict(found)}

    for chain in range(5):
        yield f"chain {chain}", partial(run, chain)


def _terminations(folder: Path) -> Iterator[Case]:
    rng = np.random.default_rng(0)

    def run(name: str, place: str, delay: float, step: int, workers: int) -> Record:
        found = kills.terminated(folder / name, place, delay, step, workers)
        return {"good": found.good, **asdict(found)}

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
        (found,) = disk.failing_calls(trial(), error, iter([number]), for_good=for_good)
        return {"good": found.good, **asdict(found)}

    for number in range(1, 100):
        yield f"ENOSPC from call {number} on", partial(run, errno.ENOSPC, number, True)
    for error in disk.ERRORS[1:]:
        for number in range(1, 100, 5):
            yield f"{errno.errorcode[error]} at call {number}", partial(run, error, number, False)


def _full(folder: Path) -> Iterator[Case]:
    def run() -> Record:
        found = disk.full_disk(disk.Trial(folder), 24)
        if found is None:
            return {"good": False, "said": "no file system can be mounted here"}
        return {"good": all(each.good for each in found), "cases": [asdict(each) for each in found]}

    yield "24 sizes and read-only", run


def _damages(folder: Path) -> Iterator[Case]:
    def run() -> Record:
        found = list(disk.damages(disk.Trial(folder), truncations=20, flips=100))
        detected, fell_back = (sum(getattr(each, name) for each in found) for name in ("detected", "fell_back"))
        return {"good": detected == fell_back == len(found), "detected": detected, "fell_back": fell_back}

    yield "20 truncations, 100 flipped bits", run


def _endurance(folder: Path) -> Iterator[Case]:
    def run() -> Record:
        found = endurance(folder / "long", 20_000)
        return {"good": found.slope <= 1.0 and found.files[0] == found.files[1], **asdict(found)}

    yield "20,000 steps", run


def _of_kills(records: list[Record]) -> str:
    kills_, in_a_save, continued = (sum(each[name] for each in records) for name in ("kills", "in_a_save", "continued"))
    lost, steps = max(each["most_lost"] for each in records), sum(each["steps"] for each in records)
    return (
        f"{kills_} kills, {in_a_save} of them while something was being written; {continued} went on from a whole "
        f"checkpoint; at most {lost} steps lost, with {kills.EVERY} between checkpoints; after {steps} steps the final "
        "states are those of runs that nobody killed"
    )


def _of_stops(records: list[Record]) -> str:
    codes = sorted({each["code"] for each in records})
    seconds = max(each["seconds"] for each in records if not each["place"].startswith("waiting"))
    waiting = max((each["seconds"] for each in records if each["place"].startswith("waiting")), default=0.0)
    return f"exit codes {codes}; ended after at most {seconds:.1f} s, waiting for a dead disk {waiting:.1f} s"


def _of_calls(records: list[Record]) -> str:
    tried = [each for each in records if "beyond" not in each]
    went_on = sum(each["code"] == 0 for each in tried)
    return f"{len(tried)} calls that failed: {len(tried) - went_on} times one line and exit code 2, {went_on} harmless"


def _of_full(records: list[Record]) -> str:
    return f"{sum(len(each.get('cases', ())) for each in records)} disks" + "".join(
        f" ({each['said']})" for each in records if "said" in each
    )


def _of_damages(records: list[Record]) -> str:
    return "; ".join(f"{each['detected']} detected, {each['fell_back']} fell back by one" for each in records)


def _of_endurance(records: list[Record]) -> str:
    return "; ".join(
        f"{each['slope']:+.3f} MB per 1,000 steps, {each['memory'][0]:.0f} to {each['memory'][1]:.0f} MB, "
        f"{each['files'][0]} to {each['files'][1]} open files, {each['objects'][0]:,} to {each['objects'][1]:,} objects"
        for each in records
    )


PARTS = {
    "resume": Part(title="stopped and continued", cases=_resume, sums_up=lambda records: "states equal, bit for bit"),
    "kill": Part(title="kill -9", cases=_kills, sums_up=_of_kills),
    "stop": Part(title="SIGTERM", cases=_terminations, sums_up=_of_stops),
    "calls": Part(title="errors of the disk", cases=_calls, sums_up=_of_calls),
    "full": Part(title="full and read-only disks", cases=_full, sums_up=_of_full),
    "damage": Part(title="damaged checkpoints", cases=_damages, sums_up=_of_damages),
    "endurance": Part(title="20,000 steps", cases=_endurance, sums_up=_of_endurance),
}
