"""CHECKPOINTS: tensors and counters go to a directory whole or not at all, and every byte is verified when read.

    step-000123/   model.safetensors optimiser.safetensors ...   one file per group of tensors
                   recipe.yaml ...                               texts that go along
                   state.json                                    format, counters, size and SHA-256 of each file

A directory is written under a hidden name beside its place and moved there when all of it is on the disk, so a
process that is killed, or a disk that is full, leaves what was there before. There is no pickle.

Where processes share one copy of the weights, each writes what it holds: training/processes/shard_files.py.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from uniperceiver.atomic import clean, remove, sha256_of, whole_folder
from uniperceiver.errors import UserError, refuse_pointer
from uniperceiver.model.weights import with_own_storage
from uniperceiver.parallel.world import World
from uniperceiver.training.processes.shard_files import Like, could_not_be_saved, read_shards, write_shards

FORMAT = 1
SHARDS = 2  # the format of a checkpoint in shards; all others are still of the first
_STATE = "state.json"
_TENSORS = ".safetensors"
_STEP = re.compile(r"step-(\d+)")
_MEND = "remove this checkpoint and use another one"


class NewerFormat(UserError):
    """A whole checkpoint of a newer version: not to be passed over, or the next save would remove it."""


@dataclass(frozen=True, kw_only=True)
class NewestCheckpoint:
    """The newest checkpoint that can be gone on from, and why newer ones are not used."""

    path: Path | None  # None: there is no checkpoint at all
    skipped: tuple[str, ...] = ()  # one line per checkpoint that is damaged or not finite, newest first


def write(
    folder: Path,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    texts: Mapping[str, str] | None = None,
) -> None:
    """Save groups of tensors, a state of plain JSON and some texts as the directory `folder`, whole or not at all.

    tensors["model"] becomes model.safetensors; texts["recipe.yaml"] a file of that name. The keys of mappings in
    `state` must be strings, and its tuples come back as lists. `state["finite"]` says whether all weights are
    finite, for `rotate`. A directory of that name is replaced.

    Raises:
        UserError: it could not be written; what was there before is as it was.
    """
    texts = texts or {}
    assert all(Path(name).name == name for name in [*tensors, *texts]), "plain file names only"
    assert not any(name == _STATE or name.endswith(_TENSORS) for name in texts), "these names are taken"
    assert _has_text_keys(state), "JSON would make texts of keys that are none"
    try:
        with whole_folder(folder) as temporary:
            _fill(temporary, tensors, state, texts)
    except (OSError, SafetensorError) as error:
        raise UserError(could_not_be_saved(folder, error)) from error


def write_parts(
    folder: Path, parts: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], world: World
) -> None:
    """As `write`, of tensors of which each process holds a part; all of them call it, the first has the state.

    Raises:
        UserError: it could not be written; what was there before is as it was.
    """

    def finish(temporary: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
        assert _has_text_keys(state), "JSON would make texts of keys that are none"
        _write_state(temporary, {"format": SHARDS, "layout": "shards", "files": dict(files), "state": dict(state)})

    write_shards(folder, parts, world, finish)


def read(folder: Path, like: Like | None = None) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The groups of tensors and the state that `write` saved, on the CPU, after every byte was verified.

    Args:
        like: how this process holds the tensors of a checkpoint in shards; then the bytes have been verified, and only
            those are read that it needs.

    Raises:
        UserError: the checkpoint is missing, damaged, or written by a newer version.
    """
    contents = _read_state(folder)
    if contents["format"] == SHARDS:
        contents = _verified(folder, deep=like is None)
        return read_shards(folder, like), contents["state"]
    contents = _verified(folder, deep=True)
    groups = sorted(name for name in contents["files"] if name.endswith(_TENSORS))
    # Cloned: tensors in the mapped file lie at odd addresses, and some kernels round differently there.
    tensors = {
        name.removesuffix(_TENSORS): {key: tensor.clone() for key, tensor in load_file(folder / name).items()}
        for name in groups
    }
    return tensors, contents["state"]


def read_state(folder: Path) -> dict[str, Any]:
    """The counters that `write` saved, without a look into the files of tensors.

    Raises:
        UserError: the checkpoint is missing or damaged, or written by a newer version.
    """
    state: dict[str, Any] = _verified(folder, deep=False)["state"]
    return state


def step_folder(root: Path, step: int) -> Path:
    """Where the checkpoint of that step lies."""
    return root / f"step-{step:06d}"


def list_checkpoints(root: Path) -> list[Path]:
    """The checkpoints in `root` by step, oldest first; whether they are whole is not looked at."""
    if not root.is_dir():
        return []
    return sorted((path for path in root.iterdir() if _STEP.fullmatch(path.name) and path.is_dir()), key=step_of)


def newest_valid(root: Path) -> NewestCheckpoint:
    """The newest checkpoint in `root` that is whole, and whose weights are finite.

    Raises:
        UserError: there are checkpoints, but none such: starting again would be a surprise. Or one that would be
            passed over is of a newer version.
    """
    skipped: list[str] = []
    for path in reversed(list_checkpoints(root)):
        try:
            state = _verified(path, deep=True)["state"]
        except NewerFormat:
            raise
        except UserError as error:
            skipped.append(str(error))
        else:
            if state.get("finite") is not False:
                return NewestCheckpoint(path=path, skipped=tuple(skipped))
            skipped.append(f"{path}: its weights are not finite; {_MEND}")
    if skipped:
        raise UserError(
            f"{root}: none of its {len(skipped)} checkpoints is whole; restore one or start a new run "
            f"elsewhere (the newest: {skipped[0]})"
        )
    return NewestCheckpoint(path=None)


def rotate(root: Path, keep: int, best: Path | str | None = None) -> list[Path]:
    """Delete old checkpoints: the newest `keep`, the best and the last finite one stay. What was deleted."""
    clean(root)
    paths = list_checkpoints(root)
    staying = survivors([(path.name, _is_finite(path)) for path in paths], keep, Path(best).name if best else None)
    leaving = [path for path in paths if path.name not in staying]
    for path in leaving:
        remove(path)
    return leaving


def survivors(checkpoints: Sequence[tuple[str, bool]], keep: int, best: str | None) -> set[str]:
    """Names that stay of (name, finite), oldest first: the newest `keep`, the best, and the last finite one."""
    assert keep >= 1, "at least the newest checkpoint stays"
    finite = [name for name, is_finite in checkpoints if is_finite]
    return (
        {name for name, _ in checkpoints[-keep:]} | {name for name, _ in checkpoints if name == best} | {*finite[-1:]}
    )


def _fill(
    folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], texts: Mapping[str, str]
) -> None:
    for name, group in tensors.items():
        save_file(with_own_storage(group), folder / f"{name}{_TENSORS}", metadata={"format": "pt"})
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
    files = {path.name: {"size": path.stat().st_size, "sha256": sha256_of(path)} for path in sorted(folder.iterdir())}
    _write_state(folder, {"format": FORMAT, "files": files, "state": dict(state)})


def _write_state(folder: Path, contents: dict[str, Any]) -> None:
    contents["sha256"] = _own_sha256(contents)
    (folder / _STATE).write_text(json.dumps(contents, indent=1), encoding="utf-8")


def _verified(folder: Path, *, deep: bool) -> dict[str, Any]:
    """The contents of state.json, after every file beside it was compared with it; `deep` reads the files."""
    contents = _read_state(folder)
    for name, facts in contents["files"].items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != facts["size"]:
                refuse_pointer(path)
                raise UserError(f"{path}: truncated or changed, {size} bytes instead of {facts['size']}; {_MEND}")
            if deep and sha256_of(path) != facts["sha256"]:
                raise UserError(f"{path}: damaged, its SHA-256 is not the one that was saved; {_MEND}")
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({_reason(error)}); {_MEND}") from error
    return contents


def _read_state(folder: Path) -> dict[str, Any]:
    path = folder / _STATE
    if not folder.is_dir():
        raise UserError(f"{folder}: no such checkpoint; give a folder such as RUN/checkpoints/step-000123")
    try:
        contents = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({_reason(error)}); {_MEND}") from error
    except ValueError as error:
        refuse_pointer(path)
        raise UserError(f"{path}: not valid JSON ({_reason(error)}); {_MEND}") from error
    version = contents.get("format") if isinstance(contents, dict) else None
    expected = contents.pop("sha256", None) if isinstance(contents, dict) else None
    changed = expected is None or expected != _own_sha256(contents)
    is_known = version == FORMAT or (version == SHARDS and contents.get("layout") == "shards")
    if isinstance(version, int) and version > FORMAT and not is_known and not (changed and expected):  # no flipped bit
        raise NewerFormat(
            f"{path}: format {version}, of a newer uniperceiver (this one reads {FORMAT}); upgrade it to go on"
        )
    if not is_known or changed:
        raise UserError(f"{path}: damaged, its SHA-256 is not the one that was saved; {_MEND}")
    return contents


def _is_finite(folder: Path) -> bool:
    """Whether its weights were finite when it was saved, and are still there in full length."""
    try:
        return _verified(folder, deep=False)["state"].get("finite") is True
    except UserError:
        return False


def step_of(path: Path) -> int:
    """The step of a checkpoint by its name."""
    return int(path.name.removeprefix("step-"))


def _own_sha256(contents: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def _has_text_keys(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _has_text_keys(inner) for key, inner in value.items())
    return not isinstance(value, list | tuple) or all(map(_has_text_keys, value))


def _reason(error: Exception) -> str:
    return " ".join((getattr(error, "strerror", None) or str(error)).split())
