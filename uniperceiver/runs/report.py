"""report.html of a run: its facts, figures, and some questions with the model's answers."""

import dataclasses
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from uniperceiver.atomic import write_text
from uniperceiver.data.lengths import split_facts
from uniperceiver.data.tasks import TaskData, open_tasks
from uniperceiver.errors import UserError
from uniperceiver.evaluation.evaluate import explanation, main_metric
from uniperceiver.evaluation.examples import Example, examples_of
from uniperceiver.evaluation.experts import idle_gates
from uniperceiver.evaluation.split import Settings
from uniperceiver.interference.records import read_measurements
from uniperceiver.report.figures import save_figures
from uniperceiver.report.run.classes import class_precisions, class_tables
from uniperceiver.report.run.figures import run_figures
from uniperceiver.report.run.page import render_run
from uniperceiver.report.run.records import RunReport
from uniperceiver.runs.evaluate import Results
from uniperceiver.runs.experts import experts_of
from uniperceiver.runs.folder import is_run_recipe, saved_recipe
from uniperceiver.runs.hearing.statistics import heard_alike
from uniperceiver.runs.tuning import with_fraction
from uniperceiver.runs.validation import evaluation_settings, splits_of
from uniperceiver.serving.predictor import UniPerceiver
from uniperceiver.training.log import read_log
from uniperceiver.waiting import say

REPORT = "report.html"
_EXAMPLES = 4  # per task
_BEAMS, _WORDS = 2, 21  # of captions, as a model's `caption` has them
_ROUTED = 32  # samples per task, and texts of its candidates, whose experts are looked at


def write_report(
    folder: Path, results: Results, tasks: Sequence[TaskData] | None = None, *, quiet: bool = True
) -> Path:
    """Write the report of a run; returns its path.

    Args:
        tasks: tasks and sources made by a program, instead of those that the recipe names.
        quiet: else a line that it is written, and one for what gates do not do.

    Raises:
        UserError: the folder holds no run with a model, or its data are gone.
    """
    if not quiet:
        say("writing the report")
    path, report = folder / REPORT, run_report(folder, results, tasks)
    write_text(path, render_run(report))
    if report.experts is not None and not quiet:
        for line in idle_gates(report.experts):
            say(f"experts: {line}")
    return path


def renew_report(folder: Path, figures: Path | None = None) -> list[Path]:
    """Write the report of a finished run anew, from its results.json; returns the files that were written.

    Args:
        figures: a folder for all figures of the run as PDF and PNG; None: no such files.

    Raises:
        UserError: the folder holds no finished run, or its data are gone.
    """
    if not is_run_recipe(folder / "recipe.yaml"):
        raise UserError(f"{folder}: not a run, so no report is written there; give the folder that train wrote")
    report = run_report(folder, read_results(folder))
    path = folder / REPORT
    write_text(path, render_run(report))
    return [path] if figures is None else [path, *save_figures(run_figures(report), figures)]


def read_results(folder: Path) -> Results:
    """Read results.json of a run.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = folder / "results.json"
    try:
        results: Results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: is not there; make it with uniperceiver evaluate {folder} --json {path}") from None
    except ValueError:
        raise UserError(f"{path}: no JSON; renew it with uniperceiver evaluate {folder} --json {path}") from None
    return results


def run_report(folder: Path, results: Results, tasks: Sequence[TaskData] | None = None) -> RunReport:
    """Gather everything that the report of a run shows: its model answers some questions for it.

    Args:
        tasks: tasks and sources made by a program, instead of those that the recipe names.

    Raises:
        UserError: the folder holds no run with a model, or its data are gone.
    """
    recipe, base = saved_recipe(folder)
    model = UniPerceiver.from_pretrained(folder)
    tasks = heard_alike(open_tasks(recipe, base) if tasks is None else tasks, model.saved.arch)
    log = read_log(folder)
    settings = dataclasses.replace(evaluation_settings(recipe, model.codec, model.device), limit=_ROUTED)
    return RunReport(
        title=f"uniperceiver: {folder.name}",
        facts=_facts(model, log),
        recipe=(folder / "recipe.yaml").read_text(encoding="utf-8"),
        log=log,
        results=results["tasks"],
        classes=class_tables(results),
        precision=class_precisions(results),
        main_metrics={data.task.name: main_metric(data.task) for data in tasks},
        examples=_examples(model, tasks, settings),
        explained={data.task.name: explanation(data.task) for data in tasks},
        data=split_facts(with_fraction(recipe, tasks), model.codec),
        experts=experts_of(model, tasks, settings),
        interference=read_measurements(folder, log),
    )


def _examples(model: UniPerceiver, tasks: Sequence[TaskData], settings: Settings) -> list[Example]:
    """Some answers of each task on its test split, or else its validation or training split."""
    words = min(_WORDS, model.saved.arch.max_text)
    settings = dataclasses.replace(settings, beams=_BEAMS, max_words=words)
    splits = (splits_of(data, ("test", "val", "train"))[0] for data in tasks)
    return [example for split in splits for example in examples_of(model.model, split, settings, _EXAMPLES)]


def _facts(model: UniPerceiver, log: Sequence[dict[str, Any]]) -> dict[str, str]:
    parameters = sum(parameter.numel() for parameter in model.model.parameters())
    arch = model.saved.arch
    facts = {
        "model": f"{arch.layers} layers, width {arch.width}, vocabulary {arch.vocabulary:,}",
        "parameters": f"{parameters / 1e6:.2f} M",
        "trained": model.saved.trained,
    }
    if model.saved.code:
        facts["code of its own"] = ", ".join(code.name for code in model.saved.code)
    steps = [line for line in log if line["event"] == "train"]
    if len(steps) > 1:
        facts["training time"] = f"{training_seconds(steps) / 60:.1f} minutes"
    return facts | _machines(log)


def _machines(log: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Where a run was trained and with which versions, as its log says it; runs of older versions say nothing."""
    lines = [line for line in log if line["event"] == "machine"]
    facts = {
        "device": [f"{line['device']} ({line['system']})" for line in lines],
        "versions": [
            f"uniperceiver {line['uniperceiver']}, torch {line['torch']}, Python {line['python']}" for line in lines
        ],
    }
    return {name: "; then ".join(dict.fromkeys(values)) for name, values in facts.items() if values}


def training_seconds(steps: Sequence[dict[str, Any]]) -> float:
    """Time between the log's training lines; pauses of a stopped run are left out as far as the log shows them."""
    gaps = [after["time"] - before["time"] for before, after in pairwise(steps)]
    usual = sorted(gaps)[len(gaps) // 2]
    return sum(gap for gap in gaps if gap < 20 * usual) + usual
