"""SAVED MODEL -> EXPORTED FOLDER: graphs that run without torch, checked against the model before anything is kept."""

import copy
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.numpy import save_file

from uniperceiver.atomic import sha256_of, whole_folder
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.errors import UserError, nearest
from uniperceiver.records.exported import EXPORT_FILE, EXPORT_FORMAT, VECTORS_FILE, Exported, ExportedGraph
from uniperceiver.serving.engine.engine import Engine
from uniperceiver.serving.export import int8 as quantised
from uniperceiver.serving.export.card import export_card
from uniperceiver.serving.export.check import GREATEST, difference, experts_held, experts_in
from uniperceiver.serving.export.graphs import ReadingGraph
from uniperceiver.serving.export.onnx_files import OPSET, refuse_without_onnx, traced_inputs, write_onnx, write_pt2
from uniperceiver.serving.export.other_tools import (
    clip_config,
    plain_tokenizer,
    preprocessor_config,
    tokenizer_config,
)
from uniperceiver.serving.export.plan import ExportPlan, PlannedGraph, plan_export
from uniperceiver.serving.files import write_json
from uniperceiver.serving.saved import SavedModel
from uniperceiver.version import VERSION

Form = Literal["onnx", "pt2"]
ENCODER_FILE = "encoder.json"  # the model's own text encoder; tokenizer.json is for other tools
_GRAPHS = "onnx"


def export(
    saved: SavedModel,
    out: Path,
    *,
    to: Form = "onnx",
    tasks: Iterable[str] | None = None,
    int8: bool = False,
    opset: int = OPSET,
) -> dict[str, Any]:
    """Write a folder of graphs that answer what the model answers, whole or not at all.

    Args:
        to: onnx: what `uniperceiver.runner` and other tools run; pt2: torch.export's own format, which is written only.
        tasks: names of the model's tasks; None: all of them.
        int8: also write graphs with weights of 8 bits, with what they cost.
        opset: of ONNX.

    Returns:
        {"export", "tasks": {name: files or why not}, "graphs": {file: facts}, "difference"}.

    Raises:
        UserError: a package is missing, an unknown task, a model that cannot be exported, a folder with other files, or
            a graph whose answers differ from the model's by more than 1e-4; nothing is left then.
    """
    refuse_without_onnx()
    _refuse_foreign(out)
    if int8 and to != "onnx":
        raise UserError("export: --int8 is for graphs of ONNX; leave it out, or --to pt2")
    saved = replace(_chosen(saved, tasks), model=copy.deepcopy(saved.model).cpu().float().eval())
    plan = plan_export(saved)
    with whole_folder(out) as folder:
        if to == "pt2":
            graphs = _write_pt2(folder, plan)
        else:
            graphs = _write_graphs(folder / _GRAPHS, plan, saved, opset)
            if int8:
                graphs |= _write_int8(folder / _GRAPHS, plan)
            _write_beside(folder, plan, saved, graphs, opset)
    return _report(out, plan, graphs)


def _chosen(saved: SavedModel, tasks: Iterable[str] | None) -> SavedModel:
    """The model with some of its tasks."""
    if tasks is None:
        return saved
    names = [tasks] if isinstance(tasks, str) else list(tasks)
    for name in names:
        if name not in saved.tasks:
            raise UserError(f"export: unknown task {name!r}; {nearest(str(name), saved.tasks)}")
    return replace(saved, tasks={name: trained for name, trained in saved.tasks.items() if name in names})


def _refuse_foreign(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder that is new or of an export")
    if out.is_dir() and any(out.iterdir()) and not (out / EXPORT_FILE).is_file():
        raise UserError(f"{out}: holds other files; give a folder that is new or of an export")


def _write_pt2(folder: Path, plan: ExportPlan) -> dict[str, ExportedGraph]:
    graphs = {}
    for file, graph in plan.graphs.items():
        path = folder / f"{Path(file).stem}.pt2"
        write_pt2(path, graph.module, traced_inputs(graph, _begin(plan, file), plan.saved.codec.size))
        graphs[path.name] = ExportedGraph(sha256=sha256_of(path), bytes=path.stat().st_size, difference=0.0)
    return graphs


def _write_graphs(folder: Path, plan: ExportPlan, saved: SavedModel, opset: int) -> dict[str, ExportedGraph]:
    """All graphs, each written and compared with the model."""
    folder.mkdir()
    words = saved.codec.size
    for file, graph in plan.graphs.items():
        write_onnx(folder / file, graph.module, traced_inputs(graph, _begin(plan, file), words), opset)
    return {file: checked(folder, file, plan, saved) for file in plan.graphs}


def _begin(plan: ExportPlan, file: str) -> PlannedGraph | None:
    begin = plan.begin_of(file)
    return None if begin is None else plan.graphs[begin]


def checked(folder: Path, file: str, plan: ExportPlan, saved: SavedModel) -> ExportedGraph:
    """What was measured of a written graph.

    Raises:
        UserError: it differs from the model by more than 1e-4, or an expert is missing.
    """
    apart = difference(folder, file, plan, saved.model, saved.codec.size)
    if not apart <= GREATEST:
        raise UserError(
            f"export: {file} differs from the model by {apart:.1e}, more than {GREATEST:.0e}; nothing is kept: export "
            "with another --opset, or ask the model itself"
        )
    experts = experts_in(saved.model)
    if experts is not None and (held := experts_held(folder / file, saved.model)) < experts:
        raise UserError(f"export: {file} holds {held} of {experts} weights of experts; nothing is kept")
    path = folder / file
    return ExportedGraph(sha256=sha256_of(path), bytes=path.stat().st_size, difference=apart, experts=experts)


def _write_int8(folder: Path, plan: ExportPlan) -> dict[str, ExportedGraph]:
    """Quantised graphs beside those that read whole inputs; captions are written in float32."""
    graphs = {}
    for file, graph in plan.graphs.items():
        if not isinstance(graph.module, ReadingGraph):
            continue
        path = folder / f"{Path(file).stem}_int8.onnx"
        quantised.quantise(folder / file, path)
        alike = quantised.cosine(folder / file, path, graph.layout, graph.view, plan.saved.codec)
        if not alike >= quantised.LEAST:
            raise UserError(
                f"export: {path.name} has a mean cosine of {alike:.4f} to {file}, less than {quantised.LEAST}; nothing "
                "is kept: export without --int8"
            )
        graphs[path.name] = ExportedGraph(
            sha256=sha256_of(path), bytes=path.stat().st_size, difference=1.0 - alike, cosine=alike
        )
    return graphs


def _view(plan: ExportPlan) -> Preprocess:
    """The preprocessing that other tools are told of: that of a call without a task, or of the first task."""
    for asked in (*plan.calls.values(), *plan.tasks.values()):
        if not isinstance(asked, str):
            return Preprocess(**asked.view)
    return Preprocess()


def _write_beside(
    folder: Path, plan: ExportPlan, saved: SavedModel, graphs: dict[str, ExportedGraph], opset: int
) -> None:
    """Everything beside the graphs."""
    exported = Exported(
        format=EXPORT_FORMAT,
        library=VERSION,
        width=saved.arch.width,
        max_text=saved.arch.max_text,
        writes=any(trained.task.answer.causal for trained in saved.tasks.values()) or not saved.tasks,
        opset=opset,
        tasks=plan.tasks,
        calls=plan.calls,
        graphs=graphs,
    )
    view = _view(plan)
    write_json(folder / EXPORT_FILE, asdict(exported))
    save_file(_vectors(plan, saved), folder / VECTORS_FILE)
    saved.codec.save(folder / ENCODER_FILE)
    plain = plain_tokenizer(saved.codec)
    if plain is not None:
        (folder / "tokenizer.json").write_text(plain, encoding="utf-8")
        write_json(
            folder / "tokenizer_config.json", tokenizer_config(saved.codec, min(view.length, saved.arch.max_text))
        )
    write_json(folder / "preprocessor_config.json", preprocessor_config(view))
    write_json(
        folder / "config.json", clip_config(saved.arch, view, {"format": EXPORT_FORMAT, "trained": saved.trained})
    )
    (folder / "README.md").write_text(export_card(exported, saved.trained), encoding="utf-8")


def _vectors(plan: ExportPlan, saved: SavedModel) -> dict[str, np.ndarray]:
    """Candidates, encoded by the model itself, and the linear head of a tuned one."""
    engine = Engine(saved, torch.device("cpu"), 64, None)
    vectors = {name: engine.all_candidates(trained).numpy() for name, trained in plan.candidates.items()}
    prompts = saved.model.prompts
    if prompts is not None and prompts.classes is not None and prompts.similarity is not None:
        vectors["head.weight"] = prompts.classes.weight.detach().numpy()
        vectors["head.bias"] = prompts.classes.bias.detach().numpy()
        vectors["head.similarity"] = prompts.similarity.detach().reshape(1).numpy()
    return {name: np.ascontiguousarray(value) for name, value in vectors.items()}


def _report(out: Path, plan: ExportPlan, graphs: dict[str, ExportedGraph]) -> dict[str, Any]:
    fields = ("media_graph", "input_graph", "text_graph", "caption_graphs", "things_graph")
    return {
        "export": str(out),
        "graphs": {
            file: {key: value for key, value in asdict(graph).items() if value is not None}
            for file, graph in graphs.items()
        },
        "tasks": {
            name: {
                "graphs": {field: value for field in fields if (value := getattr(task, field)) is not None},
                **({"refused": task.refused} if task.refused else {}),
            }
            for name, task in plan.tasks.items()
        },
        "difference": max(graph.difference for graph in graphs.values() if graph.cosine is None),
    }


def as_text(report: dict[str, Any]) -> list[str]:
    """A table for people."""
    width = max(map(len, report["graphs"]))
    lines = [f"{'graph':{width}}  {'MB':>7}  difference to torch"]
    for file, facts in report["graphs"].items():
        measured = f"mean cosine {facts['cosine']:.5f}" if "cosine" in facts else f"{facts['difference']:.1e}"
        lines.append(f"{file:{width}}  {facts['bytes'] / 1e6:>7.2f}  {measured}")
    for name, task in report["tasks"].items():
        lines += [f"{name}: {reason}" for reason in dict.fromkeys(task.get("refused", {}).values())]
    return [*lines, f"export: {report['export']}"]
