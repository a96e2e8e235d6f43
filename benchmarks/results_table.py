"""The tables of docs/results.md from a run's results.json: python -m benchmarks.results_table RUN"""

import json
import sys
from pathlib import Path

from benchmarks.markdown import markdown_table
from uniperceiver.evaluation.intervals import above_chance

SHOWN = ("accuracy@1", "masked_accuracy", "perplexity", "bleu4", "cider_d", "rouge_l", "i2t_recall@1", "t2i_recall@1")


def table(results: dict[str, dict[str, dict[str, dict[str, float]]]]) -> str:
    """A Markdown row per task, split and metric: value, 95 % interval, chance, and whether it is clearly above."""
    lines = []
    for task, splits in results["tasks"].items():
        for split, metrics in splits.items():
            for name in (name for name in SHOWN if name in metrics):
                low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
                chance = metrics.get(f"chance_{name}", metrics["chance"] if "accuracy" in name else None)
                cells = [
                    task,
                    split,
                    name,
                    f"{metrics[name]:.3f}",
                    "" if low is None or high is None else f"{low:.3f} - {high:.3f}",
                    "" if chance is None else f"{chance:.3f}",
                    "" if chance is None or low is None else "yes" if above_chance(low, chance) else "no",
                    str(int(metrics["n"])),
                ]
                lines.append(cells)
    return markdown_table(["task", "split", "metric", "value", "95 %", "chance", "clearly above", "n"], lines)


if __name__ == "__main__":
    print(table(json.loads((Path(sys.argv[1]) / "results.json").read_text(encoding="utf-8"))))
