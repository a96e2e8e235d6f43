"""Commands that train and measure runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from uniperceiver.cli.launch import Nodes, Processes, Rendezvous, Restarts
from uniperceiver.cli.options import arg
from uniperceiver.cli.output import check_folder, check_json, print_json, print_results
from uniperceiver.cli.process import settle, settle_for_run, stopped_when_unheard, trust_model
from uniperceiver.errors import UserError
from uniperceiver.parallel.environment import ended_by_itself, speaks
from uniperceiver.serving.locate import refuse_nowhere
from uniperceiver.waiting import announced

if TYPE_CHECKING:
    from uniperceiver.config import Recipe
    from uniperceiver.runs.demo_examples import DemoAnswer

_DEMO = Path(__file__).parents[1] / "recipes" / "demo.yaml"

SplitName = Literal["train", "val", "test"]
Overrides = Annotated[list[str], arg("a key of the recipe, e.g. optimiser.lr=3e-4", nargs="*", metavar="key=value")]
RunToMake = Annotated[Path, arg("folder of the run", metavar="RUN")]
Run = Annotated[Path, arg(metavar="RUN")]
ResultsAsJson = Annotated[bool, arg("print the results as JSON")]
AsJson = Annotated[bool, arg("print as JSON")]
OneTask = Annotated[str | None, arg("only this task")]
DeviceOfRecipe = Annotated[str | None, arg("cpu, cuda, ... (default: as the recipe says)")]
FiguresTo = Annotated[Path | None, arg("also draw what is shown, as PDF and PNG", metavar="DIR")]
StepOfRun = Annotated[str | None, arg("a step whose checkpoint is kept, or best (default: the last)", metavar="STEP")]
Trust = Annotated[bool, arg("execute the Python files that lie beside the model and that it needs")]
OtherData = Annotated[Path | None, arg("use the data of this recipe instead of the run's", metavar="RECIPE.yaml")]


def demo(
    overrides: Overrides,
    *,
    out: Annotated[Path, arg("folder of the run (default: %(default)s)")] = Path("runs/demo"),
    json: ResultsAsJson = False,
    processes: Processes = 1,
    nodes: Nodes = 1,
    rendezvous: Rendezvous = None,
    restarts: Restarts = 0,
) -> int | None:
    """Train, evaluate and ask a small model on generated scenes."""
    from uniperceiver.config import read_overrides, read_recipe

    recipe = read_recipe(_DEMO, read_overrides(overrides))
    code = _train(recipe, _DEMO.parent, out, json)
    if code is None and speaks():
        from uniperceiver import load
        from uniperceiver.runs.demo_examples import ask, commands, write_examples

        examples = write_examples(out)
        if not json:
            _show_answers(list(ask(load(out), recipe, examples)))
            if lines := commands(out, recipe, examples):
                print("\nask it yourself:", *lines, sep="\n  ")
    return code


def _show_answers(answers: "list[DemoAnswer]") -> None:
    if answers:
        right = sum(asked.right for asked in answers)
        print(f"\nasked about scenes that it has not seen, {right} of {len(answers)} answers are right:")
    for asked in answers:
        print(f"  {'right' if asked.right else 'wrong'}  {asked.about}: {asked.question} {asked.answer}")


def train(
    recipe: Annotated[Path, arg(metavar="RECIPE.yaml")],
    overrides: Overrides,
    *,
    out: RunToMake,
    trust: Trust = False,
    json: ResultsAsJson = False,
    processes: Processes = 1,
    nodes: Nodes = 1,
    rendezvous: Rendezvous = None,
    restarts: Restarts = 0,
) -> int | None:
    """Train a recipe; goes on with the run if its folder exists."""
    from uniperceiver.config import read_overrides, read_recipe

    return _train(read_recipe(recipe, read_overrides(overrides)), recipe.parent, out, json, trust)


def tune(
    model: Annotated[str, arg("a run, a saved or converted model, or OWNER/NAME on the hub", metavar="MODEL")],
    data: Annotated[Path, arg("a recipe, or a folder of pictures or clips: CLASS/FILE", metavar="DATA")],
    overrides: Overrides,
    *,
    out: RunToMake,
    method: Annotated[Literal["prompt", "full"] | None, arg("default: as the recipe says, or else prompt")] = None,
    fraction: Annotated[str | None, arg("share of the training set to use, such as 0.01", metavar="SHARE")] = None,
    step: StepOfRun = None,
    trust: Trust = False,
    json: ResultsAsJson = False,
    processes: Processes = 1,
    nodes: Nodes = 1,
    rendezvous: Rendezvous = None,
    restarts: Restarts = 0,
) -> int | None:
    """Adapt a finished model to your own data: all weights, or prompts."""
    refuse_nowhere(model)
    from uniperceiver.config import read_overrides
    from uniperceiver.runs.tuning import tune_recipe

    keys = read_overrides(overrides) | ({} if fraction is None else {"tune.fraction": fraction})
    keys |= {} if step is None else {"model.start_step": step}
    if trust:
        trust_model(model)
    return _train(tune_recipe(model, data, method, keys), data.parent, out, json)


def _train(recipe: "Recipe", base: Path, out: Path, as_json: bool, trust: bool = False) -> int | None:
    with announced("loading PyTorch", quiet=not speaks()):
        from uniperceiver.runs.train import train
        from uniperceiver.training.stop import EXIT_CODE, Stopped, stop_at_once

    settle(recipe, trains=True)
    with stopped_when_unheard(), ended_by_itself():
        try:
            with stop_at_once():
                run = train(recipe, out, base=base, trust=trust)
        except Stopped:
            saved = (out / "checkpoints").is_dir()
            how = (
                "after saving; the same command goes on from there"
                if saved
                else "before the first save; the same command begins anew"
            )
            if speaks():
                print(f"stopped {how} ({out})", file=sys.stderr)
            return EXIT_CODE
    if not speaks():
        return None
    if as_json:
        print_json({"run": str(out), "report": str(run.report), **run.results})
    else:
        print_results(run.results)
        print(f"model:  {out / 'model'}\nreport: {run.report}")
    return None


def evaluate(
    run: Run,
    *,
    task: OneTask = None,
    split: Annotated[list[SplitName] | None, arg("default: val and test", action="append", nargs=None)] = None,
    data: OtherData = None,
    step: StepOfRun = None,
    trust: Trust = False,
    device: DeviceOfRecipe = None,
    json: Annotated[Path | None, arg("write the results to a file", metavar="FILE")] = None,
    predictions: Annotated[Path | None, arg("write all answers: .csv, .jsonl or .parquet", metavar="FILE")] = None,
    detections: Annotated[
        Path | None, arg("write the things that were found in a split as a COCO results file", metavar="FILE.json")
    ] = None,
    figures: FiguresTo = None,
    processes: Processes = 1,
) -> int | None:
    """Measure a run or a saved model."""
    refuse_nowhere(run)
    from uniperceiver.data.table_files import check_table
    from uniperceiver.runs.evaluate import evaluate
    from uniperceiver.runs.steps import read_step
    from uniperceiver.strict import to_json

    check_json(json, "--json", {"tasks"})
    check_json(detections, "--detections", {"image_id", "category_id", "bbox"})
    check_table(predictions, "--predictions")
    settle_for_run(run, data, trust=trust)
    results = evaluate(
        run,
        splits=split or ("val", "test"),
        task=task,
        data=data,
        step=read_step(step),
        device=device,
        predictions=predictions,
        detections=detections,
    )
    if not speaks():
        return None
    if json is not None:
        json.write_text(to_json(results, indent=1) + "\n", encoding="utf-8")
    if figures is not None:
        from uniperceiver.report.figures import save_figures
        from uniperceiver.report.run.classes import class_figures, class_tables
        from uniperceiver.report.run.figures import metric_figures
        from uniperceiver.report.run.records import RunReport

        measured = RunReport(title=run.name, results=results["tasks"], classes=class_tables(results))
        save_figures(metric_figures(measured) | class_figures(measured), figures)
    print_results(results)
    return None


def report(run: Run, *, trust: Trust = False, figures: FiguresTo = None) -> int | None:
    """Write the report of a finished run anew, and its figures."""
    from uniperceiver.runs.report import renew_report

    settle_for_run(run, trust=trust)
    for path in renew_report(run, figures):
        print(path)
    return None


def experts(
    run: Run,
    *,
    task: OneTask = None,
    split: Annotated[SplitName | None, arg("default: val, or else test or train")] = None,
    limit: Annotated[int, arg("samples of each task; 0: all (default: %(default)s)")] = 256,
    trust: Trust = False,
    device: DeviceOfRecipe = None,
    picture: Annotated[Path | None, arg("also write the report's picture to a file", metavar="FILE.html")] = None,
    figures: FiguresTo = None,
    json: AsJson = False,
) -> int | None:
    """Show which experts the tokens of a run's tasks go to."""
    import dataclasses

    from uniperceiver.runs.experts import experts_of_run, print_experts, write_picture

    if limit < 0:
        raise UserError(f"--limit: {limit} is no number of samples; give 1 or more, or 0 for all")
    check_folder(picture, "--picture")
    settle_for_run(run, trust=trust)
    experts = experts_of_run(run, task=task, split=split, limit=limit, device=device)
    if picture is not None:
        write_picture(experts, run, picture)
    if figures is not None:
        from uniperceiver.report.figures import save_figures
        from uniperceiver.report.run.figures import experts_figures

        save_figures(experts_figures(experts), figures)
    if json:
        print_json(dataclasses.asdict(experts))
    else:
        print_experts(experts)
    return None
