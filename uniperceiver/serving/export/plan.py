"""MODEL -> WHICH GRAPH ANSWERS WHICH TASK: one graph for all questions that see the same weights in the same way."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import nn

from uniperceiver.errors import UserError
from uniperceiver.modalities import TEXT
from uniperceiver.model.merge import merge_model
from uniperceiver.moe.conditions import condition_of
from uniperceiver.moe.merged_blocks import MergedRouter
from uniperceiver.records import Facts, Segment
from uniperceiver.records.exported import ExportedTask
from uniperceiver.serving.export.graphs import CaptionBegin, CaptionStep, Layout, ReadingGraph, model_for_export
from uniperceiver.serving.saved import KnownTask, SavedModel
from uniperceiver.serving.task_choice import fitting, for_texts, media_alone
from uniperceiver.tasks.task import Task

MEDIA = ("image", "video")  # that graphs can read
_READERS = {"image": "vision", "video": "video", None: "text"}  # what their files are called
_FIELDS = ("media_graph", "input_graph", "text_graph", "caption_graphs")  # of an ExportedTask
_UNSAFE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, kw_only=True)
class PlannedGraph:
    """A graph that is to be written."""

    module: ReadingGraph | CaptionBegin | CaptionStep
    layout: Layout
    facts: Facts
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
    calls = dict(_calls(saved))
    saved = _merged(
        saved, [*saved.tasks.values(), *(chosen for chosen in calls.values() if isinstance(chosen, KnownTask))]
    )
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
    if arch.regions is not None:
        raise UserError(
            "export: model.image: regions: pictures become proposals, which is not exported; ask the model itself"
        )
    if arch.moe is not None and condition_of(arch.moe.condition).experts_choose:
        raise UserError(
            f"export: moe.condition: {arch.moe.condition}: experts rank tokens by a stable sort, which ONNX does "
            "not have; train with moe.condition=token, or ask the model itself"
        )
    if arch.moe is not None and arch.moe.capacity:
        raise UserError(
            "export: moe.capacity: an expert that is full leaves tokens out, so answers depend on the other samples of "
            "a batch, which a graph does not know; train without moe.capacity"
        )


def _calls(saved: SavedModel) -> Iterator[tuple[str, KnownTask | str]]:
    """What calls without a task ask, or why they cannot be asked."""

    def chosen(call: str, question: str, modality: str, fits: Callable[[Task], bool]) -> KnownTask | str:
        try:
            return fitting(saved, call, None, question, modality, fits)
        except UserError as error:
            return str(error)

    seen = {modality for trained in saved.tasks.values() for modality in trained.task.inputs}
    written = {trained.task.media for trained in saved.tasks.values() if trained.task.answer.causal}
    for modality, call in zip(MEDIA, ("encode_image", "encode_video"), strict=True):

        def looks_at(task: Task, modality: str = modality) -> bool:
            return modality in task.inputs

        if modality in seen:
            yield f"{call} {modality}", chosen(call, "rank", modality, looks_at)
    try:
        yield "encode_text text", for_texts(saved, None)
    except UserError as error:
        yield "encode_text text", str(error)
    reads_texts = any(not trained.task.media for trained in saved.tasks.values())
    for modality in (*MEDIA, TEXT):
        if not (reads_texts if modality == TEXT else modality in seen):
            continue
        if modality != TEXT:
            yield f"rank {modality}", chosen("rank", "rank", modality, lambda task: bool(task.media))
            if (modality,) in written:
                yield (
                    f"caption {modality}",
                    chosen("caption", "caption", modality, lambda task: task.answer.question == "caption"),
                )
        yield f"classify {modality}", chosen("classify", "classify", modality, lambda task: _classifies(task, False))
        if modality != TEXT and any(_classifies(trained.task, True) for trained in saved.tasks.values()):
            yield (
                f"classify {modality} text",
                chosen("classify", "classify", modality, lambda task: _classifies(task, True)),
            )


def _classifies(task: Task, texts: bool) -> bool:
    """Whether a call of `classify` may ask a task, with a text beside each picture or without."""
    return task.answer.question == "classify" and (bool(task.media) and TEXT in task.inputs) == texts


def _merged(saved: SavedModel, chosen: Sequence[KnownTask]) -> SavedModel:
    """The model with its experts folded into plain weights, where they are not chosen by values: exact, and smaller."""
    arch = saved.arch
    if arch.moe is None or arch.merged is not None or condition_of(arch.moe.condition).by_token:
        return saved
    needs: dict[str, tuple[Segment, ...]] = {}
    for trained in chosen:
        name = trained.task.name
        own = (*trained.task.segments(trained.index), *media_alone(trained).task.segments(trained.index))
        needs[name] = (*needs.get(name, ()), *own)
    merging = merge_model(saved.model, arch, needs)
    return replace(saved, model=merging.model, arch=merging.arch, base=None)


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
        asked = {"encode", "rank", "classify", "caption"} if call is None else {call.split()[0]}
        values: dict[str, object] = {}
        if foreign := [modality for modality in task.media if modality not in MEDIA]:
            refused = dict.fromkeys(_FIELDS, f"it looks at {foreign[0]}, which is not exported")
        elif len(task.media) > 1:
            refused = dict.fromkeys(_FIELDS, f"it looks at {' and '.join(task.media)} at once, which is not exported")
        elif task.answer.reads_objects:
            refused = dict.fromkeys(_FIELDS, "things in pictures are not exported; ask the model itself")
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
            refused=refused,
            **values,  # type: ignore[arg-type]
        )

    def _graphs_of(self, chosen: KnownTask, asked: set[str], refused: dict[str, str]) -> dict[str, object]:
        """The fields of an ExportedTask that name graphs and candidates; what cannot be is entered into `refused`."""
        task = chosen.task
        ways: dict[str, Callable[[], dict[str, object]]] = {}
        if task.media and asked & {"encode", "encode_image", "encode_video", "rank"}:
            ways["media_graph"] = lambda: {"media_graph": self._reader(media_alone(chosen))}
        if asked & {"encode", "encode_text", "rank", "classify"} and task.target == TEXT:
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
        media = task.media[0] if task.media else None
        in_text = task.answer.answers_in_text(task)
        layout = self._layout(chosen, media, text=TEXT in task.inputs, read_in_text=in_text)
        head = (
            self.saved.arch.prompts is not None
            and bool(self.saved.arch.prompts.classes)
            and bool(task.answer.has_labels)
        )
        name = "text_input" if media is None else _READERS[media] + ("_text" if TEXT in task.inputs else "")
        facts = task.facts("input", chosen.index)
        key = (layout, head, self._side("input"), routing_key(self.model, task.segments(chosen.index)[:-1]))
        return self._file(
            key,
            f"{name}_model",
            task.name,
            lambda: ReadingGraph(self.model, layout, facts, features=head),
            layout,
            facts,
        )

    def _texts(self, chosen: KnownTask) -> str:
        """The graph of the candidates of a task."""
        layout, facts = Layout(text=True), chosen.task.facts("candidate", chosen.index)
        key = (layout, False, self._side("candidate"), routing_key(self.model, chosen.task.segments(chosen.index)[-1:]))
        return self._file(
            key, "text_model", chosen.task.name, lambda: ReadingGraph(self.model, layout, facts), layout, facts
        )

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
        if len(task.media) != 1:
            raise UserError("it writes about no picture or clip, which is not exported")
        layout, facts = replace(self._layout(chosen, task.media[0]), writes=True), task.facts("input", chosen.index)
        segments = task.segments(chosen.index)[:-1]
        key = (layout, self._side("input"), routing_key(self.model, segments))
        text_key = ("step", routing_key(self.model, segments[-1:]))
        step = self._file(
            text_key, "caption_step", task.name, lambda: CaptionStep(self.model, segments[-1]), layout, facts
        )
        begin = self._file(
            key, "caption_begin", task.name, lambda: CaptionBegin(self.model, layout, facts), layout, facts, step
        )
        words = self._candidates(f"words.{task.name}", chosen)
        return {"caption_graphs": (begin, step), "vectors": words}

    def _side(self, side: str) -> str:
        """Prompts may differ between inputs and candidates; without them there is no difference but the routing."""
        return "" if self.saved.arch.prompts is None else side

    def _layout(
        self, chosen: KnownTask, media: str | None, *, text: bool = False, read_in_text: bool = False
    ) -> Layout:
        view = chosen.preprocess
        return Layout(
            media=media,
            text=text,
            read_in_text=read_in_text,
            size=view.size if media else 0,
            frames=view.frames if media == "video" else 0,
        )

    def _file(
        self,
        key: object,
        name: str,
        task: str,
        make: Callable[[], ReadingGraph | CaptionBegin | CaptionStep],
        layout: Layout,
        facts: Facts,
        step: str | None = None,
    ) -> str:
        """The file of the graph with that key; a second of its kind has the task in its name."""
        if key not in self._files:
            names = (name, f"{name}.{_UNSAFE.sub('_', task)}", *(f"{name}.{number}" for number in range(2, 1000)))
            file = next(f"{free}.onnx" for free in names if f"{free}.onnx" not in self.graphs)
            self.graphs[file] = PlannedGraph(module=make(), layout=layout, facts=facts, step=step)
            self._files[key] = file
        return self._files[key]
