"""The tables of docs/regions-study.md, from the study's raw figures and the logs of its runs.

python -m benchmarks.regions_tables --steadiness studies/regions > docs/results/regions_steadiness.json
python -m benchmarks.regions_tables docs/results
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.markdown import markdown_table
from uniperceiver.studies.records import SeedEstimate
from uniperceiver.studies.statistics import is_gap, standard_error

Json = dict[str, Any]
WARM_UP = 20  # steps of the recipe, whose losses are left out
# task -> metrics, the one that it is judged by first before the others
SHOWN = {
    "things": ("ap", "mask_ap"),
    "largest": ("loss", "accuracy@1"),
    "captions": ("loss", "cider_d"),
    "retrieval": ("loss", "i2t_recall@1"),
}


def tables(path: Path) -> dict[str, str]:
    """Each table of the page by what it is about; Markdown."""
    study = json.loads(path.read_text(encoding="utf-8"))
    return {"metrics": metrics(study), "Δ_MTL": deltas(study), "steadiness": steadiness_table(study["steadiness"])}


def collected(study: Path) -> Json:
    """What the page needs of a study: its arms, the held-out figures of the metrics shown, and steadiness."""
    report = json.loads((study / "study.json").read_text(encoding="utf-8"))
    rows = [_row(report, task, metric) for task, shown in SHOWN.items() for metric in shown]
    return {"arms": report["arms"], "rows": rows, "steadiness": steadiness(study)}


def metrics(study: Json) -> str:
    """Held-out figures of every arm, mean ± standard error; bold: it differs from the baseline."""
    rows = [_row(study, task, metric) for task, shown in SHOWN.items() for metric in shown]
    heads = [f"{row['task']}, `{row['metric']}`" for row in rows]
    lines = ([f"`{arm['name']}`", *(_cell(row, arm["name"]) for row in rows)] for arm in study["arms"])
    return markdown_table(["arm", *heads], lines)


def _row(study: Json, task: str, metric: str) -> Json:
    rows = (row for row in study["rows"] if (row["task"], row["split"], row["metric"]) == (task, "val", metric))
    row: Json = next(rows)
    return row


def _cell(row: Json, arm: str) -> str:
    if arm not in row["arms"]:
        return "–"
    text = _with_error(row["arms"][arm]["mean"], row["arms"][arm]["error"])
    difference = (row["differences"] or {}).get(arm)
    return f"**{text}**" if difference is not None and _is_gap(difference) else text


def _with_error(value: float, error: float | None) -> str:
    """One seed has no standard error."""
    return f"{value:.3f} (one)" if error is None else f"{value:.3f} ± {error:.3f}"


def _is_gap(difference: Json) -> bool:
    numbers: Json = {key: math.nan if value is None else value for key, value in difference.items()}
    return is_gap(SeedEstimate(**numbers))


def deltas(study: Json) -> str:
    """Δ_MTL of every arm that has one, as a share ± standard error, and its parameters."""
    lines = (
        [
            f"`{arm['name']}`",
            _with_error(arm["delta"]["val"]["value"], arm["delta"]["val"]["error"]),
            f"{arm['parameters'] / 1e6:.2f} M",
        ]
        for arm in study["arms"]
        if arm["delta"]
    )
    return markdown_table(["arm", "Δ_MTL", "parameters"], lines)


def roughness(losses: Sequence[float]) -> float:
    """How far logged losses lie off the geometric mean of their neighbours: root mean square of the logarithms."""
    logs = [math.log(loss) for loss in losses]
    bends = [(log - (before + after) / 2) ** 2 for before, log, after in zip(logs, logs[1:], logs[2:], strict=False)]
    return math.sqrt(mean(bends))


def roughness_of(log: Iterable[Json]) -> float:
    """Of a run: mean over its tasks, from the end of the warm-up on."""
    losses: dict[str, list[float]] = defaultdict(list)
    for line in log:
        if line.get("event") == "train" and line["step"] > WARM_UP:
            for key, value in line.items():
                if key.endswith("/loss"):
                    losses[key].append(value)
    return mean(map(roughness, losses.values()))


def steadiness(study: Path) -> dict[str, list[float]]:
    """Roughness of the runs of every arm that have ended, seed by seed."""
    values: dict[str, list[float]] = defaultdict(list)
    for path in sorted(study.glob("cells/*/seed-*/results.json")):
        lines = path.with_name("log.jsonl").read_text(encoding="utf-8").splitlines()
        values[path.parent.parent.name].append(roughness_of(map(json.loads, lines)))
    return dict(values)


def steadiness_table(values: dict[str, list[float]]) -> str:
    """Mean ± standard error of every arm, the steadiest first."""
    lines = (
        [f"`{arm}`", _with_error(mean(seeds), standard_error(seeds) if len(seeds) > 1 else None)]
        for arm, seeds in sorted(values.items(), key=lambda item: mean(item[1]))
    )
    return markdown_table(["arm", "roughness"], lines)


def main() -> None:
    """Print all tables, or what is collected of a study as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("results", nargs="?", type=Path, default=Path("docs/results/regions.json"))
    parser.add_argument("--collect", type=Path, metavar="STUDY")
    arguments = parser.parse_args()
    if arguments.collect is not None:
        print(json.dumps(collected(arguments.collect), indent=1))
        return
    for name, text in tables(arguments.results).items():
        print(f"{name}\n\n{text}\n")


if __name__ == "__main__":
    main()
