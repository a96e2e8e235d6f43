"""CHECKPOINTS IN SHARDS: each process writes what it holds, and any number of processes reads what it needs.

    step-000123/   shard-00001-model-00001-of-00001.safetensors ...   one file per process, as torch names it
                   state.json                                         as of any checkpoint, with "layout": "shards"

The files are safetensors with the places of their parts in the header, so there is no pickle; torch's own format has
pickled metadata. Tensors are named group/name.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uniperceiver.atomic import sha256_of, whole_folder
from uniperceiver.errors import UserError
from uniperceiver.parallel.parts import Groups, is_part
from uniperceiver.parallel.world import World

Like = Callable[[str, str], Tensor | None]
"""The tensor whose parts are to be held as this process holds those of that one, by group and name; None: whole."""


def write_shards(
    folder: Path, groups: Groups, world: World, finish: Callable[[Path, Mapping[str, Mapping[str, Any]]], None]
) -> None:
    """Save groups of tensors, of which each process holds parts, as the directory `folder`, whole or not at all.

    All processes call it. A directory of that name is replaced.

    Args:
        finish: writes what else there is into the directory, in the first process; it is given size and SHA-256 of the
            files by name.

    Raises:
        UserError: it could not be written, in all processes; what was there before is as it was.
    """
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.api import CheckpointException

    flat = {f"{group}/{name}": value.detach() for group, values in groups.items() for name, value in values.items()}
    with ExitStack() as stack:
        with world.together(UserError), _refused(folder):
            place = str(stack.enter_context(whole_folder(folder))) if world.is_first else ""
        temporary = Path(world.from_first(lambda: place))
        failures: set[str] = set()
        try:
            writer = checkpoint.HuggingFaceStorageWriter(str(temporary), save_distributed=True)
            checkpoint.save(flat, storage_writer=writer)
        except CheckpointException as error:  # what any process has met, in all of them
            failures = {str(failure) for failure, _ in error.failures.values()}
        with world.together(UserError), _refused(folder):
            if failures:
                raise OSError("; ".join(sorted(failures)))
            own = sorted(temporary.glob(f"shard-{world.rank + 1:05d}-*"))
            facts = {path.name: {"size": path.stat().st_size, "sha256": sha256_of(path)} for path in own}
        files = {name: values for part in world.gather(facts) for name, values in part.items()}
        with world.together(UserError), _refused(folder):
            if world.is_first:
                finish(temporary, files)
            stack.close()


@contextmanager
def _refused(folder: Path) -> Iterator[None]:
    """Within the block, an error of the disk becomes one line."""
    try:
        yield
    except OSError as error:
        raise UserError(could_not_be_saved(folder, error)) from error


def could_not_be_saved(folder: Path, error: Exception) -> str:
    """One line for people."""
    reason = " ".join((getattr(error, "strerror", None) or str(error)).split())
    return f"{folder}: could not be saved ({reason}); free or repair the disk, then continue from the newest checkpoint"


def read_shards(folder: Path, like: Like | None = None) -> dict[str, dict[str, Tensor]]:
    """The groups of tensors that `write_shards` saved: whole and on the CPU, or as this process holds them.

    Nothing is sent; each process reads for itself, those parts that it needs.
    """
    from torch.distributed import checkpoint

    metadata = checkpoint.HuggingFaceStorageReader(str(folder)).read_metadata()
    flat: dict[str, Tensor] = {}
    for full_name, facts in metadata.state_dict_metadata.items():
        group, name = full_name.split("/", 1)
        example = None if like is None else like(group, name)
        if example is not None and is_part(example) and example.shape == facts.size:  # type: ignore[union-attr]
            flat[full_name] = torch.empty_like(example.detach(), dtype=facts.properties.dtype)  # type: ignore[union-attr]
        else:
            flat[full_name] = torch.empty(facts.size, dtype=facts.properties.dtype)  # type: ignore[union-attr]
    with warnings.catch_warnings():  # that it reads for itself is meant
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        checkpoint.load(flat, storage_reader=checkpoint.HuggingFaceStorageReader(str(folder)), no_dist=True)
    groups: dict[str, dict[str, Tensor]] = {}
    for full_name, value in flat.items():
        group, name = full_name.split("/", 1)
        groups.setdefault(group, {})[name] = value
    return groups
