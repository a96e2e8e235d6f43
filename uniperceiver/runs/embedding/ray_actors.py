"""PARTS -> ACTORS of a Ray cluster: each loads the model once and writes parts, whose numbers are all that travels.

The parts are those that processes write, byte for byte where machines compute alike: so either goes on with what the
other has left. The folder must be one that all machines see. Needs the package ray (the extra `ray`).
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from uniperceiver.errors import UserError
from uniperceiver.runs.embedding.job import EmbeddingJob
from uniperceiver.serving.predict.embed import PART, EmbeddingDone, check_same, part_path, parts_of, write_part

_FOREVER = -1  # restarts of an actor, tries of a part: machines may be taken away at any moment


class PartWriter:
    """An actor: a model, and what it embeds."""

    def __init__(self, job: EmbeddingJob, out: str, device: str, task: str | None, size: int) -> None:
        self._model, self._items = job.model(device), job.items()
        self._out, self._task, self._size = Path(out), task, size

    def write(self, number: int) -> dict[str, str]:
        """Write a part; why some of it have no vector, by name."""
        return write_part(self._model, self._items, number, self._out, size=self._size, task=self._task)


def embed_with_ray(
    job: EmbeddingJob,
    out: Path,
    *,
    actors: int,
    device: str = "cpu",
    task: str | None = None,
    size: int = PART,
    on_files: Callable[[int, int], None] = lambda done, total: None,
) -> EmbeddingDone:
    """Write the parts that are not there yet, by so many actors of the Ray cluster that this process belongs to.

    Where it belongs to none, Ray starts on this machine alone, and ends with the call.

    Args:
        device: of each actor; with cuda, each has a GPU of its own.

    Raises:
        UserError: Ray is not installed; otherwise as `embed`.
    """
    if find_spec("ray") is None:
        raise UserError("--ray: needs the package ray; run: pip install 'uniperceiver[ray]'")
    ray, pools = import_module("ray"), import_module("ray.util")
    items = job.items()
    check_same(job.model("cpu"), items, out, size)
    there = [part_path(out, number).is_file() for number in range(parts_of(items, size))]
    missing = [number for number, is_there in enumerate(there) if not is_there]
    done, errors = sum(there), dict[str, str]()
    mine = not ray.is_initialized()
    if mine:
        ray.init(include_dashboard=False, log_to_driver=False)
    try:
        actor: Any = ray.remote(
            num_cpus=1, num_gpus=int(device.startswith("cuda")), max_restarts=_FOREVER, max_task_retries=_FOREVER
        )(PartWriter)
        writers = [actor.remote(job, str(out.resolve()), device, task, size) for _ in range(min(actors, len(missing)))]
        if writers:
            pool = pools.ActorPool(writers)
            for of_part in pool.map_unordered(lambda writer, number: writer.write.remote(number), missing):
                done, errors = done + 1, errors | of_part
                on_files(min(done * size, len(items)), len(items))
    finally:
        if mine:
            ray.shutdown()
    return EmbeddingDone(made=len(missing), there=sum(there), errors=errors)
