"""The tables of docs/interference.md from the raw figures: python -m benchmarks.study_tables [docs/results]

The folder holds study.json of the studies as rates.json and those of STUDIES, the rows of benchmarks.arms as arms.json,
and what `uniperceiver interference --json` wrote as interference/ARM-SEED-STEP.json.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from itertools import permutations, product
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.markdown import markdown_table

Json = dict[str, Any]
METRICS = ("accuracy@1", "cider_d", "masked_accuracy", "i2t_recall@1")  # the one shown beside the loss, by task
STUDIES = ("routing", "control", "six", "six_long")
TIMES = ("training", "inference", "inference merged")


def tables(place: Path) -> dict[str, str]:
    """Each table of the page by what it is about; Markdown."""
    texts = {"rates": rates(_read(place / "rates.json"))}
    for name in STUDIES:
        study = _read(place / f"{name}.json")
        texts[f"{name}: cross-entropy"] = losses(study)
        texts[f"{name}: other metrics"] = others(study)
    texts["times"] = times(_read(place / "arms.json"))
    texts["matrices"] = matrices({path.stem: _read(path) for path in (place / "interference").glob("*.json")})
    return texts


def rates(study: Json) -> str:
    """Mean held-out cross-entropy over the tasks, of each arm of a study."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in _rows(study, "val"):
        for arm, figure in row["arms"].items():
            values[arm].append(figure["mean"])
    lines = ([f"`{arm}`", f"{mean(seeds):.3f}"] for arm, seeds in values.items())
    return markdown_table(["arm", "held-out cross-entropy"], lines)


def losses(study: Json) -> str:
    """Held-out cross-entropy and gap closed of each task, mean ± standard error, and the one on training samples."""
    val, train = _rows(study, "val"), _rows(study, "train")
    beside = ["gap closed"] if study["reference"] else []
    heads = [cell for row in val for cell in (f"{row['task']}, held out", *beside)]
    names = " / ".join(row["task"] for row in train)
    lines = (
        [f"`{arm['name']}`", str(len(arm["done"])), *_cells(study, val, arm["name"]), _means(train, arm["name"])]
        for arm in study["arms"]
    )
    return markdown_table(["arm", "seeds", *heads, f"{names}, training samples"], lines)


def _cells(study: Json, rows: list[Json], arm: str) -> Iterable[str]:
    """The loss of an arm, and how much of the gap it closes where there is a reference, task by task."""
    for row in rows:
        figure = row["arms"][arm]
        yield f"{figure['mean']:.3f} ± {figure['error']:.3f}"
        if not study["reference"]:
            continue
        if not row["is_gap"]:
            yield "no gap"
        elif arm == study["baseline"]:
            yield "0"
        elif arm == study["reference"]:
            yield "1" if row["gap"]["value"] < 0 else "1, but worse"
        else:
            closed = row["closed"][arm]
            yield f"{closed['value']:.2f} ± {closed['error']:.2f}"


def others(study: Json) -> str:
    """One more metric of each task, held out and on training samples; mean ± standard error of the former."""
    by_split = {split: [row for row in study["rows"] if row["split"] == split] for split in ("val", "train")}
    chosen = {split: [row for row in rows if row["metric"] in METRICS] for split, rows in by_split.items()}
    heads = [f"{row['task']}, `{row['metric']}`" for row in chosen["val"]]
    lines = []
    for arm in (arm["name"] for arm in study["arms"]):
        pairs = zip(chosen["val"], chosen["train"], strict=True)
        both = ((val["arms"][arm], train["arms"][arm]) for val, train in pairs)
        cells = (f"{val['mean']:.3f} ± {val['error']:.3f} ({train['mean']:.3f})" for val, train in both)
        lines.append([f"`{arm}`", *cells])
    return markdown_table(["held out (training samples)", *heads], lines)


def times(rows: list[Json]) -> str:
    """Training and inference of each arm, as multiples of the baseline's; median and 95 % interval."""
    closed: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        _, pair, _, what = row["name"].split("/")
        closed[pair.split()[0]][what] = f"{row['value']:.2f} ({row['low']:.2f} - {row['high']:.2f})"
    base = rows[0]["name"].split("/")[1].split()[-1]
    lines = ([f"`{arm}`", *(cells.get(what, "–") for what in TIMES)] for arm, cells in closed.items())
    return markdown_table([f"over `{base}`", *TIMES], lines)


def matrices(measured: dict[str, Json]) -> str:
    """Interference in the first and last layer, mean (lowest, highest seed); bold: all intervals on one side of 0."""
    groups: dict[tuple[str, int], list[Json]] = defaultdict(list)
    for stem in sorted(measured):
        groups[stem.split("-")[0], measured[stem]["step"]].append(measured[stem])
    tasks = next(iter(measured.values()))["tasks"]
    pairs = list(permutations(range(len(tasks)), 2))
    lines = []
    for arm, place in product(sorted({arm for arm, _ in groups}, reverse=True), (0, -1)):
        for step in sorted(step for name, step in groups if name == arm):
            layers = [measurement["layers"][place] for measurement in groups[arm, step]]
            cells = (_entry(layers, i, j) for i, j in pairs)
            lines.append([f"`{arm}`, layer {layers[0]['layer']}", str(step), str(len(layers)), *cells])
    heads = [f"{tasks[i]} ← {tasks[j]}" for i, j in pairs]
    return markdown_table(["weights", "step", "seeds", *heads], lines)


def _entry(layers: list[Json], i: int, j: int) -> str:
    """One entry over the seeds; bold needs values that are not 0.00, too; (?) where a seed's has no bounds."""
    values = [layer["matrix"][i][j] for layer in layers if layer["matrix"][i][j] is not None]
    bounds = [(layer["low"][i][j], layer["high"][i][j]) for layer in layers]
    if not values:
        return "null"
    text, texts = f"{mean(values):z.2f}", [f"{value:z.2f}" for value in values]
    bounded = all(low is not None for low, _ in bounds)
    if bounded and "0.00" not in texts and (all(low > 0 for low, _ in bounds) or all(high < 0 for _, high in bounds)):
        text = f"**{text}**"
    lowest, highest = min(texts, key=float), max(texts, key=float)
    spread = f" ({lowest}, {highest})" if lowest != highest else ""
    return f"{text}{spread}{'' if bounded else ' (?)'}"


def _rows(study: Json, split: str) -> list[Json]:
    """The cross-entropy of every task."""
    return [row for row in study["rows"] if row["split"] == split and row["metric"] == "loss"]


def _means(rows: list[Json], arm: str) -> str:
    return " / ".join(f"{row['arms'][arm]['mean']:.3f}" for row in rows)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    for name, text in tables(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/results")).items():
        print(f"{name}\n\n{text}\n")
