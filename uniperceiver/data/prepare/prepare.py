"""What `uniperceiver data prepare` does: the data of a recipe as shards of small pictures, and a recipe on them."""

import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from uniperceiver.atomic import clean, only_one, write_text
from uniperceiver.config import TaskConfig, parse_recipe, read_overrides
from uniperceiver.data.loader import load
from uniperceiver.data.prepare.recipe import prepared_recipe, write_classes
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
from uniperceiver.strict import read_yaml, to_json

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


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What became of all."""

    folder: Path
    sets: tuple[PreparedSet, ...]


def prepare_data(path: Path, overrides: Sequence[str], out: Path, workers: int, *, quiet: bool = False) -> Prepared:
    """Write the data of a recipe into `out`, from where it was stopped, and a recipe.yaml that reads them.

    Args:
        workers: processes; 0: this one.

    Raises:
        UserError: the recipe is wrong, `out` holds something else or cannot be written, no sample can be read.
    """
    values = read_yaml(path)
    recipe = parse_recipe(values, read_overrides(overrides), str(path))
    sets = sets_of(open_tasks(recipe, path.parent), by_modality=True)
    plans = _plans(sets)
    note = {"base": str(path.parent.resolve()), "sets": [_described(*each) for each in zip(sets, plans, strict=True)]}
    try:
        out.mkdir(parents=True, exist_ok=True)
        with only_one(out) as alone:
            if not alone:
                raise UserError(f"{out}: another process is writing there; wait for it, or use another --out")
            done = _done(out, note)
            if done is None:
                reports = _write(out, plans, workers, quiet)
                done = [_summed(*each) for each in zip(plans, reports, strict=True)]
                write_classes(out, plans)
                text = prepared_recipe(values, recipe, path, list(zip(sets, plans, strict=True)))
                _finish(out, text, {**note, "done": [asdict(each) for each in done]}, reports, plans)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); use another --out") from None
    return Prepared(folder=out, sets=tuple(done))


def _plans(sets: Sequence[RecipeSet]) -> tuple[SetPlan, ...]:
    plans: dict[str, SetPlan] = {}
    for one in sets:
        first, size = one.readers[0], len(one.samples.source)
        name = re.sub(r"[^\w-]+", "_", f"{first.data.task.name}-{first.split}")
        while name.lower() in plans:
            name += "_"
        plans[name.lower()] = SetPlan(
            name=name,
            data=one.samples,
            modality=first.modality,
            side=max(_side(reader.data.config, reader.split == "train") for reader in one.readers),
            per_shard=min(max(math.ceil(size / _SHARDS), _LEAST), _MOST),
        )
    return tuple(plans.values())


def _side(config: TaskConfig, training: bool) -> int:
    """Pixels of the shorter side that a task needs: a random crop is enlarged only if it is a small one."""
    size = max(config.size, config.late.size or 0)
    return math.ceil(size * min(config.augment.crop**-0.5, _MOST_ROOM)) if training else size


def _described(one: RecipeSet, plan: SetPlan) -> dict[str, Any]:
    """All that decides what is written, so that nothing else is mixed with it."""
    samples = len(plan.data.source)
    return {
        "name": plan.name,
        "used_by": [use.name for use in plan.data.uses],
        "source": dict(one.spec),
        "samples": samples,
        "side": plan.side,
        "per_shard": plan.per_shard,
    }


def _done(out: Path, note: Mapping[str, Any]) -> list[PreparedSet] | None:
    """What was written before, if all of it was; else the folder is made ready to go on.

    Raises:
        UserError: it holds other files, or was written from other data.
    """
    path = out / _NOTE
    there = sorted(each.name for each in out.iterdir() if not each.name.startswith("."))
    if not path.exists():
        if there:
            raise UserError(f"{out}: holds other files, such as {there[0]}; use another --out")
        write_text(path, to_json(note, indent=1))
    before = json.loads(path.read_bytes())
    done = before.pop("done", None)
    if before != json.loads(to_json(note)):
        raise UserError(f"{out}: was begun with another recipe or other data; use another --out, or remove it")
    if done is not None:
        shutil.rmtree(out / PROGRESS, ignore_errors=True)
        return [PreparedSet(**{**each, "used_by": tuple(each["used_by"])}) for each in done]
    for folder in (out, *filter(Path.is_dir, out.iterdir())):
        clean(folder)
    return None


def _write(out: Path, plans: tuple[SetPlan, ...], workers: int, quiet: bool) -> list[list[ShardReport]]:
    reports: list[list[ShardReport]] = [[] for _ in plans]
    for name in (PROGRESS, *(plan.name for plan in plans)):
        (out / name).mkdir(exist_ok=True)
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as progress:
        bars = [progress.add_task(plan.name, total=plan.shards) for plan in plans]
        for shard, report in load(ShardWriter(out, plans), shard_plans(plans), workers):
            reports[shard.set].append(report)
            progress.advance(bars[shard.set])
    return reports


def _summed(plan: SetPlan, reports: Sequence[ShardReport]) -> PreparedSet:
    samples = sum(each.samples for each in reports)
    if not samples:
        first = reports[0].broken[0]
        raise UserError(f"{plan.data.uses[0].name}: no sample can be read; the first: {first.sample}: {first.reason}")
    return PreparedSet(
        name=plan.name,
        used_by=tuple(use.name for use in plan.data.uses),
        samples=samples,
        broken=sum(len(each.broken) for each in reports),
        shards=sum(each.samples > 0 for each in reports),
        bytes=sum(each.bytes for each in reports),
    )


def _finish(
    out: Path, recipe: str, note: Mapping[str, Any], reports: Sequence[Sequence[ShardReport]], plans: Sequence[SetPlan]
) -> None:
    """Write what was left out, the recipe, and that all is done."""
    broken = [
        {"set": plan.name, **asdict(one)}
        for plan, several in zip(plans, reports, strict=True)
        for report in several
        for one in report.broken
    ]
    write_text(out / "broken.json", to_json(broken, indent=1))
    write_text(out / "recipe.yaml", recipe)
    write_text(out / _NOTE, to_json(note, indent=1))
    shutil.rmtree(out / PROGRESS)


def as_text(prepared: Prepared) -> Iterator[str]:
    """Lines for people."""
    for one in prepared.sets:
        left_out = f"; {one.broken:,} broken left out" if one.broken else ""
        shards = f"{one.shards} shard{'s' * (one.shards > 1)}"
        yield f"{one.name}: {one.samples:,} samples in {shards}, {one.bytes / 1e6:,.1f} MB{left_out}"
    if any(one.broken for one in prepared.sets):
        yield f"broken: {prepared.folder / 'broken.json'}"
    yield f"recipe: {prepared.folder / 'recipe.yaml'}"
