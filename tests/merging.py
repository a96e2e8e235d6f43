"""What tests of merging share: the catalogue's tasks and questions about pictures, and a tiny model merged for them."""

from collections.abc import Sequence
from typing import Any

from tests.moe_cases import TASKS, VQA, moe_of
from tests.tiny import hearing, tiny_architecture, tiny_model, tiny_task
from uniperceiver.model.merge import Merging, merge_model
from uniperceiver.model.model import Generalist
from uniperceiver.moe.settings import KINDS
from uniperceiver.records import Segment
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.task import Task

NAMES = ["vqa", *CATALOGUE]
INDEX = {name: place % TASKS for place, name in enumerate(NAMES)}


def task_of(name: str) -> Task:
    return VQA if name == "vqa" else tiny_task(name)


def needs_of(names: Sequence[str] = NAMES) -> dict[str, Sequence[Segment]]:
    return {name: task_of(name).segments(INDEX[name]) for name in names}


def routed_and_merged(names: Sequence[str] = NAMES, **settings: Any) -> tuple[Generalist, Merging]:
    hears = hearing(task_of("audio_classification"))
    moe = moe_of(**settings, kinds=(*KINDS, "audio"))
    model = tiny_model(moe=moe, **hears).eval()
    return model, merge_model(model, tiny_architecture(moe=moe, **hears), needs_of(names))
