"""Commands that ask, describe, change and import trained models."""

from pathlib import Path
from typing import Annotated, Any, Literal

from uniperceiver.cli.options import arg
from uniperceiver.cli.output import print_json
from uniperceiver.cli.process import trust_model
from uniperceiver.cli.runs import AsJson, Run, StepOfRun, Trust
from uniperceiver.errors import warn
from uniperceiver.serving.locate import is_export, model_folder, refuse_nowhere, refuse_of_export

Replace = Annotated[bool, arg("let the model take the place of another one that is there")]

_NOT_ALL = 1  # exit code where some files could not be used


def predict(
    run: Run,
    question: Annotated[Literal["classify", "caption", "rank", "detect", "segment", "embed"], arg()],
    files: Annotated[list[str], arg("images, clips or folders of them, after --", metavar="FILE")],
    *,
    labels: Annotated[
        list[str] | None, arg("classify, detect, segment: the candidates (default: the task's)", metavar="TEXT")
    ] = None,
    labels_file: Annotated[Path | None, arg("the same, one on each line, tabs between texts", metavar="FILE")] = None,
    template: Annotated[
        list[str] | None, arg("classify: texts that each label is put into: 'a photo of {label}'", metavar="TEXT")
    ] = None,
    asked: Annotated[
        str | None, arg("classify: the text that is read beside each file", option="--question", metavar="TEXT")
    ] = None,
    text: Annotated[bool, arg("classify: each FILE is a text itself; else a file with one on each line")] = False,
    texts: Annotated[list[str] | None, arg("rank: the texts to compare with", metavar="TEXT")] = None,
    task: Annotated[str | None, arg("a task of the run")] = None,
    least: Annotated[float | None, arg("detect, segment: the lowest score of a thing, 0 to 1 (default: 0.3)")] = None,
    draw: Annotated[Path | None, arg("detect, segment: new folder for pictures with things", metavar="DIR")] = None,
    beam: Annotated[int | None, arg("caption: number of beams (default: 2)")] = None,
    step: StepOfRun = None,
    trust: Trust = False,
    device: Annotated[str, arg()] = "cpu",
    keep_going: Annotated[bool, arg("answer what can be used, and name the rest (exit code 1)")] = False,
    out: Annotated[
        Path | None, arg("write .csv, .parquet, .jsonl (embed: or .npy): a row for each file or thing", metavar="FILE")
    ] = None,
    json: Annotated[bool, arg("print the answers as JSON")] = False,
) -> int | None:
    """Ask a model about files, folders or texts."""
    refuse_nowhere(run, files if not (text or keep_going) else ())
    from uniperceiver.serving.predict.predict import Question, predict
    from uniperceiver.serving.predict.tables import as_text, write_table

    asks = Question(
        kind=question,
        task=task,
        labels=labels,
        labels_file=labels_file,
        template=template,
        question=asked,
        texts=texts,
        beam=beam,
        text=text,
        least=least,
        draw=draw,
    )
    model = asked_model(run, step, trust=trust, device=device)
    answers = predict(model, asks, files, keep_going=keep_going, out=out)
    if out is not None:
        write_table(out, answers)
    if json:
        print_json(answers)
    else:
        print("\n".join(as_text(answers) if out is None else [f"{len(answers):,} answers: {out}"]))
    return _NOT_ALL if any("error" in answer for answer in answers) else None


def asked_model(run: Path, step: str | None, *, trust: bool, device: str) -> Any:
    """A model that answers: that of a run, or an export, with which this process has no torch.

    Raises:
        UserError: it cannot be loaded, or is an export, which has neither steps nor code.
    """
    if is_export(run):
        refuse_of_export(run, has_code=step is not None or trust)
        from uniperceiver.runner import Runner

        return Runner(run, device)
    from uniperceiver.model.architecture import notes_on
    from uniperceiver.runs.steps import load_saved, read_step
    from uniperceiver.serving.predictor import UniPerceiver

    if trust:
        trust_model(run)
    saved = load_saved(run, read_step(step))
    model = UniPerceiver(saved, device, home=None if step is not None else model_folder(run))
    for note in notes_on(saved.arch):
        warn(note)
    return model


def convert(
    checkpoint: Annotated[Path, arg("a .pth, .pt or .safetensors file", metavar="OFFICIAL.pth")],
    *,
    out: Annotated[Path, arg("folder of the saved model", metavar="DIR")],
    report: Annotated[Path | None, arg("write what became of every tensor, as a table", metavar="FILE")] = None,
    vocabulary: Annotated[
        Path | None, arg("CLIP's merges, or a tokenizer.json (default: CLIP's, cut to its words)", metavar="FILE")
    ] = None,
    heads: Annotated[int | None, arg("attention heads (default: width / 64)", metavar="N")] = None,
    layers: Annotated[
        int | None, arg("how many there must be (default: those of published models)", metavar="N")
    ] = None,
    positions: Annotated[
        Literal["auto", "sincos", "table"],
        arg("computed, or the stored table, interpolated (default: computed where the table is just that)"),
    ] = "auto",
    reference_grid: Annotated[
        float | None,
        arg("coordinates a picture spans (default: as the stored table, or else 160 / 16 = 10)", metavar="N"),
    ] = None,
    ffn_gates: Annotated[
        Literal["shared", "own"],
        arg("whether the second FFN linear takes the decision of the first (default: %(default)s)"),
    ] = "shared",
    type_vector: Annotated[
        Literal["auto", "folded", "add"],
        arg("whether the visual type vector is in the patch bias (default: it is, but in files of the older version)"),
    ] = "auto",
    layout: Annotated[Literal["release", "paper"], arg("of the attribute bits (default: %(default)s)")] = "release",
    replace: Replace = False,
    json: AsJson = False,
) -> int | None:
    """Turn a checkpoint of the original release into a model."""
    from uniperceiver.model.official.variant import Choices
    from uniperceiver.serving.convert import VOCABULARY, convert_checkpoint, facts_of
    from uniperceiver.serving.info import as_text

    choices = Choices(
        heads=heads,
        layers=layers,
        positions=positions,
        reference_grid=reference_grid,
        ffn_gates=ffn_gates,
        type_vector=type_vector,
        layout=layout,
    )
    words = vocabulary or VOCABULARY
    conversion = convert_checkpoint(checkpoint, out, choices, vocabulary=words, report=report, replace=replace)
    facts = facts_of(conversion)
    if json:
        print_json({"model": str(out), **facts})
    else:
        print("\n".join([*as_text(facts), f"model: {out}"]))
    return None


def merge(
    run: Run,
    *,
    out: Annotated[Path, arg("folder of the merged model", metavar="DIR")],
    task: Annotated[list[str] | None, arg("tasks to merge for (default: all)", action="extend", metavar="NAME")] = None,
    step: StepOfRun = None,
    trust: Trust = False,
    replace: Replace = False,
    json: Annotated[bool, arg("print rows and sizes as JSON")] = False,
) -> int | None:
    """Fold experts into plain weights: the same answers, served densely."""
    refuse_nowhere(run)
    from uniperceiver.runs.steps import load_saved, read_step
    from uniperceiver.serving.merge import as_text, merge_run

    if trust:
        trust_model(run)
    saved = None if step is None else load_saved(run, read_step(step))
    report = merge_run(run, out, task, saved, replace=replace)
    if json:
        print_json(report)
    else:
        print("\n".join(as_text(report)))
    return None


def export(
    run: Run,
    *,
    out: Annotated[Path, arg("folder of the export", metavar="DIR")],
    to: Annotated[Literal["onnx", "pt2"], arg("graphs of ONNX, or of torch.export (default: %(default)s)")] = "onnx",
    task: Annotated[list[str] | None, arg("tasks to export (default: all)", action="extend", metavar="NAME")] = None,
    int8: Annotated[bool, arg("also write graphs with weights of 8 bits, and what they cost")] = False,
    opset: Annotated[int, arg("of ONNX (default: %(default)s)", metavar="N")] = 20,
    step: StepOfRun = None,
    trust: Trust = False,
    json: Annotated[bool, arg("print graphs, sizes and differences as JSON")] = False,
) -> int | None:
    """Write graphs that answer without torch, checked against the model."""
    from uniperceiver.runs.steps import load_saved, read_step
    from uniperceiver.serving.export.export import as_text, export

    if trust:
        trust_model(run)
    saved = load_saved(run, read_step(step))
    report = export(saved, out, to=to, tasks=task, int8=int8, opset=opset)
    if json:
        print_json(report)
    else:
        print("\n".join(as_text(report)))
    return None


def info(
    run: Annotated[Path | None, arg("a run, a saved model, or a RECIPE.yaml", nargs="?", metavar="RUN")] = None,
    *,
    trust: Trust = False,
    json: AsJson = False,
) -> int | None:
    """Describe a run or saved model, the turns that a recipe plans, or what recipes can name."""
    if run is not None and run.suffix in (".yaml", ".yml"):
        from uniperceiver.runs.turns.table import turns_as_text, turns_of_recipe

        facts = turns_of_recipe(run)
        if json:
            print_json(facts)
        else:
            print("\n".join(turns_as_text(facts)))
        return None
    if run is not None:
        refuse_nowhere(run)
    from uniperceiver.serving.info import as_text, library_info, model_info

    if trust and run is not None:
        trust_model(run)
    facts = library_info() if run is None else model_info(run)
    if json:
        print_json(facts)
    else:
        print("\n".join(as_text(facts)))
    return None
