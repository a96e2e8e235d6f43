"""What commands print: JSON for machines, tables for people."""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from uniperceiver.errors import UserError


def check_folder(path: Path | None, option: str) -> None:
    """Refuse a file whose folder is not there, before there is anything to write.

    Raises:
        UserError: it is not there.
    """
    if path is not None and not path.parent.is_dir():
        raise UserError(f"{option}: there is no folder {path.parent}; make it first")


def check_json(path: Path | None, option: str, keys: Collection[str]) -> None:
    """Refuse a JSON file that cannot be written, before there is anything to write.

    Args:
        keys: of what is written, or of its first entry where it is a list; a file of that name is replaced only where
            it has them.

    Raises:
        UserError: its folder is not there, it is a folder itself, or it holds something else.
    """
    check_folder(path, option)
    if path is None or not path.exists():
        return
    if path.is_dir():
        raise UserError(f"{option}: {path} is a folder; name a file in it")
    if path.is_file() and path.stat().st_size and not _has_keys(path, keys):
        raise UserError(f"{option}: {path} holds something else, which would be lost; name another file")


def _has_keys(path: Path, keys: Collection[str]) -> bool:
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    if isinstance(values, list):
        return not values or _are_entries(values[0], keys)
    return _are_entries(values, keys)


def _are_entries(values: object, keys: Collection[str]) -> bool:
    return isinstance(values, dict) and values.keys() >= set(keys)


def print_json(values: Any) -> None:
    """Print values as JSON on the standard output."""
    from uniperceiver.strict import to_json

    print(to_json(values, indent=1))


def _by_prompt(where: str, metric: str, metrics: Mapping[str, float]) -> Iterator[str]:
    """A line for each prompt that was measured alone."""
    for name, value in metrics.items():
        if name.startswith(f'{metric} "') and name.endswith('"'):
            prompt = name.removeprefix(f"{metric} ")
            low, high = metrics[f"{name}_low"], metrics[f"{name}_high"]
            yield f"{where}: {metric} with {prompt} alone {value:.3f} ({low:.3f}-{high:.3f})"


def print_results(results: Mapping[str, Any]) -> None:
    """Print a table of every task and split: its main metric with interval and chance, and its loss."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from uniperceiver.evaluation.evaluate import beats_chance, first_metric, remark_on

    headers = ("task", "split", "metric", "value", "95 %", "chance", "above", "loss", "n")
    table = Table(*headers, box=SIMPLE, pad_edge=False, caption="above: the 95 % interval excludes chance")
    remarks = []
    for task, splits in results["tasks"].items():
        if (remark := remark_on(splits)) is not None:
            remarks.append(f"{task}: {remark}")
        for split, metrics in splits.items():
            name = first_metric(metrics)
            assert name is not None
            low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
            remarks += list(_by_prompt(f"{task}/{split}", name, metrics))
            table.add_row(
                task,
                split,
                name,
                f"{metrics[name]:.3f}",
                "" if low is None or high is None else f"{low:.3f}-{high:.3f}",
                f"{metrics['chance']:.3f}",
                "" if low is None or high is None else ("no", "yes")[beats_chance(name, low, high, metrics["chance"])],
                f"{metrics['loss']:.3f}",
                str(metrics["n"]),
            )
    if remarks:
        table.caption = "\n".join([str(table.caption), *remarks])
    Console(width=max(Console().width, 100)).print(table)  # a pipe has 80 columns, where figures would be cut
