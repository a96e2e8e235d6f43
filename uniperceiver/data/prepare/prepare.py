"""What `uniperceiver data prepare` does: the data of a recipe as shards of small pictures, and a recipe on them."""

import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uniperceiver.atomic import clean, only_one, write_text
from uniperceiver.config import TaskConfig, parse_recipe, read_overrides
from uniperceiver.data.batch import media_read
from uniperceiver.data.formats import notes_of
from uniperceiver.data.loader import load
from uniperceiver.data.prepare.recipe import prepared_recipe, write_classes
from uniperceiver.data.prepare.recode import RECODERS
from uniperceiver.data.prepare.sets import RecipeSet, sets_of
from uniperceiver.data.prepare.shard_writer import (
    PROGRESS,
    SetPlan,
    ShardReport,
    ShardWriter,
    shard_plans,
)
from uniperceiver.data.tasks import open_tasks
from uniperceiver.errors import UserError
from uniperceiver.modalities import MODALITIES, TEXT
from uniperceiver.own_code import import_code
from uniperceiver.strict import read_yaml, to_json
from uniperceiver.tasks.task import Task
from uniperceiver.waiting import bars

_MOST_ROOM = 1.5  # for random crops: how much larger than `size` pictures are stored at most
_LEAST, _MOST = 64, 1000  # samples of a shard
_SHARDS = 64  # of a set of middle size: work for many processes, and little is lost by a stop
_NOTE = "prepared.json"


@dataclass(frozen=True, kw_only=True)
class PreparedSet:
    """What became of a source."""

    name: str  # of its folder
    used_by: tuple[str, ...]  # task/split
    samples: int
    broken: int
    shards: int
    bytes: int
    notes: tuple[str, ...] = ()  # what was left out when the source was opened


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """What became of all."""

    folder: Path
    sets: tuple[PreparedSet, ...]


def prepare_data(path: Path, overrides: Sequence[str], out: Path, workers: int, *, quiet: bool = False) -> PreparedData:
    """Write the data of a recipe into `out`, from where it was stopped, and a recipe.yaml that reads them.

    Args:
        workers: processes; 0: this one.

    Raises:
        UserError: the recipe is wrong, `out` holds something else or cannot be written, no sample can be read.
    """
    values = read_yaml(path)
    recipe = parse_recipe(values, read_overrides(overrides), str(path))
    import_code(recipe.imports, path.parent)
    tasks = open_tasks(recipe, path.parent)
    for data in tasks:
        _check_task(data.task)
    sets = sets_of(tasks, by_modality=True)
    plans = _plans(sets)
    planned = list(zip(sets, plans, strict=True))
    note = {"base": str(path.parent.resolve()), "sets": [_described(data_set, plan) for data_set, plan in planned]}
    try:
        out.mkdir(parents=True, exist_ok=True)
        with only_one(out) as alone:
            if not alone:
                raise UserError(f"{out}: another process is writing there; wait for it, or use another --out")
            prepared = _prepared_before(out, note)
            if prepared is None:
                reports = _write(out, plans, workers, quiet)
                prepared = [_summed(plan, shards) for plan, shards in zip(plans, reports, strict=True)]
                write_classes(out, plans)
                text = prepared_recipe(values, recipe, path, planned)
                _finish(out, text, {**note, "done": [asdict(summary) for summary in prepared]}, reports, plans)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); use another --out") from None
    return PreparedData(folder=out, sets=tuple(prepared))


def _check_task(task: Task) -> None:
    """A shard holds files and their captions, or a text, of each sample.

    Raises:
        UserError: the task looks at something else, or at more.
    """
    media, reads = media_read(task), task.answer.reads_text(task)
    without = [modality for modality in media if modality not in RECODERS]
    if without or (media and reads):
        nouns = " and ".join(MODALITIES[modality].noun for modality in without or (*media, TEXT))
        raise UserError(f"tasks.{task.name}: no shards are written of {nouns}; leave this task's data as they are")


def _plans(sets: Sequence[RecipeSet]) -> tuple[SetPlan, ...]:
    plans: dict[str, SetPlan] = {}
    for data_set in sets:
        first, size = data_set.readers[0], len(data_set.samples.source)
        name = re.sub(r"[^\w-]+", "_", f"{first.data.task.name}-{first.split}")
        while name.lower() in plans:
            name += "_"
        plans[name.lower()] = SetPlan(
            name=name,
            data=data_set.samples,
            media=data_set.media,
            rate=data_set.rate,
            side=max(_side(reader.data.config, reader.split == "train") for reader in data_set.readers),
            per_shard=min(max(math.ceil(size / _SHARDS), _LEAST), _MOST),
        )
    return tuple(plans.values())


def _side(config: TaskConfig, training: bool) -> int:
    """Pixels of the shorter side that a task needs: a random crop is enlarged only if it is a small one."""
    size = max(config.size, config.late.size or 0, *(shape.size or 0 for shape in config.shapes))
    return math.ceil(size * min(config.augment.crop**-0.5, _MOST_ROOM)) if training else size


def _described(data_set: RecipeSet, plan: SetPlan) -> dict[str, Any]:
    """All that decides what is written, so that nothing else is mixed with it."""
    samples = len(plan.data.source)
    return {
        "name": plan.name,
        "used_by": [use.name for use in plan.data.uses],
        "source": dict(data_set.spec),
        "samples": samples,
        "side": plan.side,
        "per_shard": plan.per_shard,
        **({} if plan.rate is None else {"media": list(plan.media), "rate": plan.rate}),
    }


def _prepared_before(out: Path, note: Mapping[str, Any]) -> list[PreparedSet] | None:
    """What was written before, if all of it was; else the folder is made ready to go on.

    Raises:
        UserError: it holds other files, or was written from other data.
    """
    path = out / _NOTE
    if not path.exists():
        if others := sorted(file.name for file in out.iterdir() if not file.name.startswith(".")):
            raise UserError(f"{out}: holds other files, such as {others[0]}; use another --out")
        write_text(path, to_json(note, indent=1))
    before = json.loads(path.read_bytes())
    done = before.pop("done", None)
    if before != json.loads(to_json(note)):
        raise UserError(f"{out}: was begun with another recipe or other data; use another --out, or remove it")
    if done is not None:
        shutil.rmtree(out / PROGRESS, ignore_errors=True)
        lists = ("used_by", "notes")  # the second is younger than some of these files
        return [PreparedSet(**summary | {key: tuple(summary.get(key, ())) for key in lists}) for summary in done]
    for folder in (out, *filter(Path.is_dir, out.iterdir())):
        clean(folder)
    return None


def _write(out: Path, plans: tuple[SetPlan, ...], workers: int, quiet: bool) -> list[list[ShardReport]]:
    reports: list[list[ShardReport]] = [[] for _ in plans]
    for name in (PROGRESS, *(plan.name for plan in plans)):
        (out / name).mkdir(exist_ok=True)
    with bars(quiet=quiet) as shown:
        for shard, report in load(ShardWriter(out, plans), shard_plans(plans), workers):
            reports[shard.set].append(report)
            plan = plans[shard.set]
            shown.move(f"{plan.name}, shards", len(reports[shard.set]), plan.shards)
    return reports


def _summed(plan: SetPlan, reports: Sequence[ShardReport]) -> PreparedSet:
    samples = sum(report.samples for report in reports)
    if not samples:
        first = reports[0].broken[0]
        raise UserError(f"{plan.data.uses[0].name}: no sample can be read; the first: {first.sample}: {first.reason}")
    tracks = sum(report.tracks for report in reports)
    notes = [f"{tracks:,} clips lose their sound track, as no task hears them"] if tracks else []
    return PreparedSet(
        name=plan.name,
        used_by=tuple(use.name for use in plan.data.uses),
        samples=samples,
        broken=sum(len(report.broken) for report in reports),
        shards=sum(report.samples > 0 for report in reports),
        bytes=sum(report.bytes for report in reports),
        notes=(*notes_of(plan.data.source), *notes),
    )


def _finish(
    out: Path, recipe: str, note: Mapping[str, Any], reports: Sequence[Sequence[ShardReport]], plans: Sequence[SetPlan]
) -> None:
    """Write what was left out, the recipe, and that all is done."""
    broken = [
        {"set": plan.name, **asdict(left_out)}
        for plan, shards in zip(plans, reports, strict=True)
        for report in shards
        for left_out in report.broken
    ]
    write_text(out / "broken.json", to_json(broken, indent=1))
    write_text(out / "recipe.yaml", recipe)
    write_text(out / _NOTE, to_json(note, indent=1))
    shutil.rmtree(out / PROGRESS)
