"""MODEL -> WHICH GRAPH ANSWERS WHICH TASK: one graph for all questions that see the same weights in the same way."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from uniperceiver.data.media.preprocess import READERS, Preprocess
from uniperceiver.errors import UserError
from uniperceiver.modalities import MODALITIES, TEXT
from uniperceiver.moe.merged_blocks import MergedRouter
from uniperceiver.records import Facts, Segment
from uniperceiver.records.exported import MEDIA_INPUTS, ExportedTask
from uniperceiver.serving.asking.calls import MEDIA, calls_without_task, merged_for_calls
from uniperceiver.serving.export.graphs import (
    CaptionBegin,
    CaptionStep,
    Graph,
    Layout,
    ReadingGraph,
    ThingsGraph,
    model_for_export,
)
from uniperceiver.serving.saved import KnownTask, SavedModel
from uniperceiver.serving.task_choice import media_alone

_READERS = {"image": "vision", "video": "video", "audio": "audio"}  # what their files are called
_FIELDS = ("media_graph", "input_graph", "text_graph", "caption_graphs", "things_graph")  # of an ExportedTask
_UNSAFE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, kw_only=True)
class PlannedGraph:
    """A graph that is to be written."""

    module: Graph
    layout: Layout
    facts: Facts
    view: Preprocess  # what is made of its inputs
    step: str | None = None  # of a graph that begins captions: the file that writes a word more


@dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """All graphs of a model, by file, and who asks them."""

    saved: SavedModel  # merged, where its experts could be
    graphs: dict[str, PlannedGraph]
    tasks: dict[str, ExportedTask]
    calls: dict[str, ExportedTask | str]
    candidates: dict[str, KnownTask]  # whose candidates are encoded beforehand, by their name in the file of vectors

    def begin_of(self, file: str) -> str | None:
        """The graph that begins the captions which a step goes on with; None of other graphs."""
        return next((name for name, graph in self.graphs.items() if graph.step == file), None)


def plan_export(saved: SavedModel) -> ExportPlan:
    """Which graphs answer what a saved model answers.

    Raises:
        UserError: nothing of it can be exported; the line says why.
    """
    _refuse_whole(saved)
    calls = dict(calls_without_task(saved))
    saved = merged_for_calls(saved)
    planner = _Planner(saved)
    answered = {
        call: chosen if isinstance(chosen, str) else planner.entry(chosen, call) for call, chosen in calls.items()
    }
    tasks = {name: planner.entry(chosen) for name, chosen in saved.tasks.items()}
    if not planner.graphs:
        reasons = dict.fromkeys(f"{name}: {reason}" for name, task in tasks.items() for reason in task.refused.values())
        raise UserError(f"export: no task of this model can be exported: {'; '.join(reasons) or '(it has none)'}")
    return ExportPlan(saved=saved, graphs=planner.graphs, tasks=tasks, calls=answered, candidates=planner.candidates)


def _refuse_whole(saved: SavedModel) -> None:
    arch = saved.arch
    if arch.moe is not None and arch.moe.capacity:
        raise UserError(
            "export: moe.capacity: an expert that is full leaves tokens out, so answers depend on the other samples of "
            "a batch, which a graph does not know; train without moe.capacity"
        )
    if arch.moe is not None and arch.moe.group == "batch":
        raise UserError(
            "export: moe.group=batch: experts choose among the tokens of all samples that are encoded together, which "
            "a graph does not know; train with moe.group=sequence, or ask the model itself"
        )


def routing_key(model: nn.Module, segments: tuple[Segment, ...]) -> tuple[object, ...]:
    """Which rows of weights a merged model uses for these segments; () where all segments see the same.

    Raises:
        UserError: it holds no weights for them.
    """
    routers = [module for module in model.modules() if isinstance(module, MergedRouter)]
    if not routers:
        return ()
    codes = routers[0].held.codes_of(segments)
    return tuple(
        tuple(rows[code] for code in codes) for router in routers for rows in (router.rows.first, router.rows.second)
    )


class _Planner:
    """Enters questions into a table of graphs, where those that see the same share one."""

    def __init__(self, saved: SavedModel) -> None:
        self.saved, self.model = saved, model_for_export(saved.model)
        self.graphs: dict[str, PlannedGraph] = {}
        self.candidates: dict[str, KnownTask] = {}
        self._files: dict[object, str] = {}

    def entry(self, chosen: KnownTask, call: str | None = None) -> ExportedTask:
        """A task with the graphs that it needs, for one call or for all that may ask it."""
        task, view = chosen.task, chosen.preprocess
        refused: dict[str, str] = {}
        asked = {"encode", "rank", "classify", "caption", "detect"} if call is None else {call.split()[0]}
        values: dict[str, object] = {}
        if foreign := [modality for modality in task.media if modality not in MEDIA]:
            refused = dict.fromkeys(_FIELDS, f"it looks at {foreign[0]}, which is not exported")
        elif len({MEDIA_INPUTS[modality] for modality in task.media}) < len(task.media):
            refused = dict.fromkeys(_FIELDS, f"it looks at {' and '.join(task.media)} at once, which is not exported")
        else:
            values = self._graphs_of(chosen, asked, refused)
        prompts = self.saved.arch.prompts
        return ExportedTask(
            name=task.name,
            inputs=task.inputs,
            question=task.answer.question,
            labels=task.labels,
            prompts=task.evaluation_prompts or task.prompts,
            template=task.template,
            read_in_text=task.answer.answers_in_text(task),
            scale=self.saved.model.scale(task.temperature).item(),
            view=view.to_json(),
            own_labels_only=prompts is not None and bool(prompts.labels or prompts.classes) and task.answer.has_labels,
            masks=task.masks,
            class_term=task.class_term,
            name_bias=self._name_bias(chosen),
            refused=refused,
            **values,  # type: ignore[arg-type]
        )

    def _graphs_of(self, chosen: KnownTask, asked: set[str], refused: dict[str, str]) -> dict[str, object]:
        """The fields of an ExportedTask that name graphs and candidates; what cannot be is entered into `refused`."""
        task = chosen.task
        ways: dict[str, Callable[[], dict[str, object]]] = {}
        if task.target != TEXT:
            refused["text_graph"] = f"it compares with {MODALITIES[task.target].noun}s, which is not exported"
        if task.media and asked & {"encode", *(f"encode_{modality}" for modality in MEDIA), "rank"}:
            ways["media_graph"] = lambda: {"media_graph": self._reader(media_alone(chosen))}
        if task.answer.reads_objects and asked & {"detect", "segment"}:
            ways["things_graph"] = lambda: {"things_graph": self._things(chosen), **self._labels(chosen)}
        if asked & {"encode", "encode_text", "rank", "classify", "detect", "segment"} and task.target == TEXT:
            ways["text_graph"] = lambda: {"text_graph": self._texts(chosen)}
        if task.answer.question == "classify" and "classify" in asked:
            ways["input_graph"] = lambda: {"input_graph": self._reader(chosen), **self._labels(chosen)}
        if task.answer.question == "caption" and "caption" in asked:
            ways["caption_graphs"] = lambda: self._captions(chosen)
        values: dict[str, object] = {}
        for field, make in ways.items():
            try:
                values |= make()
            except UserError as error:
                refused[field] = str(error)
        return values

    def _reader(self, chosen: KnownTask) -> str:
        """The graph of all inputs of a task."""
        task = chosen.task
        in_text = task.answer.answers_in_text(task)
        layout = self._layout(chosen, task.media, text=TEXT in task.inputs, read_in_text=in_text)
        head = (
            self.saved.arch.prompts is not None
            and bool(self.saved.arch.prompts.classes)
            and bool(task.answer.has_labels)
        )
        read = [_READERS[modality] for modality in task.media] or ["text_input"]
        name = "_".join([*read, *(["text"] if task.media and TEXT in task.inputs else [])])
        facts = task.facts("input", chosen.index)
        key = (layout, head, self._side("input"), routing_key(self.model, task.segments(chosen.index)[:-1]))
        return self._file(
            key,
            f"{name}_model",
            chosen,
            lambda: ReadingGraph(self.model, layout, facts, features=head),
            layout,
            facts,
        )

    def _things(self, chosen: KnownTask) -> str:
        """The graph of the things in a task's pictures."""
        layout, facts = self._layout(chosen, ("image",)), chosen.task.facts("input", chosen.index)
        layout = replace(layout, masks=chosen.task.masks)
        key = (layout, "things", self._side("input"), routing_key(self.model, chosen.task.segments(chosen.index)[:-1]))
        name = "segment_model" if layout.masks else "detect_model"
        return self._file(key, name, chosen, lambda: ThingsGraph(self.model, layout, facts), layout, facts)

    def _name_bias(self, chosen: KnownTask) -> float:
        """What is added to the logits of names, where each is a yes or no of its own."""
        tokenizer = self.saved.model.tokenizer.tokenizer_of("image")
        bias = getattr(tokenizer, "name_bias", None)
        return 0.0 if bias is None or chosen.task.class_term != "sigmoid" else bias.item()

    def _texts(self, chosen: KnownTask) -> str:
        """The graph of the candidates of a task."""
        layout, facts = Layout(text=True), chosen.task.facts("candidate", chosen.index)
        key = (layout, False, self._side("candidate"), routing_key(self.model, chosen.task.segments(chosen.index)[-1:]))
        return self._file(key, "text_model", chosen, lambda: ReadingGraph(self.model, layout, facts), layout, facts)

    def _labels(self, chosen: KnownTask) -> dict[str, object]:
        if not chosen.task.labels:
            return {}
        head = self.saved.arch.prompts is not None and bool(self.saved.arch.prompts.classes)
        return {"vectors": self._candidates(f"labels.{chosen.task.name}", chosen), "head": "head" if head else None}

    def _candidates(self, name: str, chosen: KnownTask) -> str:
        self.candidates.setdefault(name, chosen)
        return name

    def _captions(self, chosen: KnownTask) -> dict[str, object]:
        task = chosen.task
        if not task.media:
            raise UserError("it writes about no picture, clip or sound, which is not exported")
        layout, facts = replace(self._layout(chosen, task.media), writes=True), task.facts("input", chosen.index)
        segments = task.segments(chosen.index)[:-1]
        key = (layout, self._side("input"), routing_key(self.model, segments))
        text_key = ("step", routing_key(self.model, segments[-1:]))
        step = self._file(
            text_key, "caption_step", chosen, lambda: CaptionStep(self.model, segments[-1]), layout, facts
        )
        begin = self._file(
            key, "caption_begin", chosen, lambda: CaptionBegin(self.model, layout, facts), layout, facts, step
        )
        words = self._candidates(f"words.{task.name}", chosen)
        return {"caption_graphs": (begin, step), "vectors": words}

    def _side(self, side: str) -> str:
        """Prompts may differ between inputs and candidates; without them there is no difference but the routing."""
        return "" if self.saved.arch.prompts is None else side

    def _layout(
        self, chosen: KnownTask, media: tuple[str, ...], *, text: bool = False, read_in_text: bool = False
    ) -> Layout:
        view, reader = chosen.preprocess, READERS["audio"]
        return Layout(
            media=media,
            text=text,
            read_in_text=read_in_text,
            size=view.size if {"image", "video"} & set(media) else 0,
            frames=view.frames if "video" in media else 0,
            grid=reader.shape(view) if "audio" in media and reader.shape else (),
            step=reader.step(view) if "audio" in media and reader.step else 0.0,
        )

    def _file(
        self,
        key: object,
        name: str,
        chosen: KnownTask,
        make: Callable[[], Graph],
        layout: Layout,
        facts: Facts,
        step: str | None = None,
    ) -> str:
        """The file of the graph with that key; a second of its kind has the task in its name."""
        if key not in self._files:
            names = (
                name,
                f"{name}.{_UNSAFE.sub('_', chosen.task.name)}",
                *(f"{name}.{number}" for number in range(2, 1000)),
            )
            file = next(f"{free}.onnx" for free in names if f"{free}.onnx" not in self.graphs)
            self.graphs[file] = PlannedGraph(
                module=make(), layout=layout, facts=facts, view=chosen.preprocess, step=step
            )
            self._files[key] = file
        return self._files[key]
