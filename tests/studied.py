"""Studies whose runs take no time: the process of a cell is a few lines that write what training would."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.small_run import values_of, write_recipe
from uniperceiver.studies import run as study_run
from uniperceiver.studies.plan import StudyCell, StudyPlan

# Figures depend on arm and seed alone; a file beside the study says which arms fail and which wait for a signal.
_RUN = """
import json, pathlib, signal, sys, time
out, arm, seed, behaviour = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
out.mkdir(parents=True, exist_ok=True)
with (out.parent.parent.parent / "started.txt").open("a") as file:
    file.write(f"{arm} {seed}\\n")
if arm in behaviour.get("fail", []):
    print("\\n".join(f"line {n}" for n in range(30)) + "\\n   ^^^^", file=sys.stderr)
    sys.exit(1)
if arm in behaviour.get("wait", []):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    (out / "waiting").touch()
    time.sleep(60)
base = {"shared": 3.0, "own": 2.0, "mid": 2.25}.get(arm, 1.0)
lines = [
    {"step": n, "event": event, "time": n * n / 2, "colours/loss": base + 4 - n, "colours/val/loss": base + seed / 8}
    for n, event in ((1, "train"), (2, "train"), (2, "evaluate"), (4, "train"), (4, "evaluate"))
]
(out / "log.jsonl").write_text("".join(json.dumps(each) + "\\n" for each in lines))
metrics = {"loss": base + seed / 8, "loss_low": 0.0, "accuracy@1": 0.5, "chance": 0.1, "n": 12}
tasks = {"colours": {"train": metrics, "val": metrics}, "captions": {"val": {"loss": 2.0, "cider_d": None, "n": 3}}}
(out / "results.json").write_text(json.dumps({"tasks": tasks}))
"""
ARMS: dict[str, Any] = {
    "shared": {"moe.condition": "shared"},
    "own": {"moe.condition": "task_specific"},
    "mid": {"moe.condition": "attribute"},
}


def write_study(folder: Path, **changes: Any) -> Path:
    """A study of three arms on the small recipe, with two seeds; a change to None removes a key."""
    folder.mkdir(parents=True, exist_ok=True)
    write_recipe(folder / "recipe.yaml", values_of(steps=4))
    values = {"recipe": "recipe.yaml", "arms": ARMS, "seeds": 2, "baseline": "shared", "reference": "own", **changes}
    path = folder / "study.yaml"
    written = {key: value for key, value in values.items() if value is not None}
    path.write_text(yaml.safe_dump(written, sort_keys=False), encoding="utf-8")
    return path


def without_training(monkeypatch: pytest.MonkeyPatch, behaviour: Mapping[str, Any] | None = None) -> None:
    """Runs of studies write figures at once; `behaviour` names arms that fail or wait."""

    def command_of(plan: StudyPlan, cell: StudyCell) -> list[str]:
        words = [str(cell.folder), cell.arm, str(cell.seed), json.dumps(behaviour or {})]
        return [sys.executable, "-S", "-c", _RUN, *words]

    monkeypatch.setattr(study_run, "command_of", command_of)
    monkeypatch.setattr(study_run, "_TICK", 0.01)


def started(out: Path) -> list[str]:
    """The runs that were started so far, such as "shared 0"; forgotten afterwards."""
    path = out / "started.txt"
    lines = path.read_text().splitlines() if path.is_file() else []
    path.unlink(missing_ok=True)
    return lines
