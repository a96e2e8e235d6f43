"""Convert checkpoints of full size with random values, as `uniperceiver convert` does: what it takes, and what is left.

python -m benchmarks.convert KEYS ... [--json FILE], where KEYS lists the names and shapes of an original model
({"keys": {name: shape}}), or is a folder with keys_*.json. One model at a time is written into a temporary folder,
converted in a process of its own, and deleted. The exit code is 1 where a tensor is missing or left over without a
reason, or where memory is beyond its goal.
"""

import argparse
import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

GOAL = 1.2  # of the bytes of file and model together
_FLOAT = 4  # bytes
_MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a conversion took, and what became of the tensors."""

    model: str
    used: int  # tensors
    unused: Mapping[str, int]  # tensors by reason
    unexplained: int
    missing: int  # parameters of our model that the saved one lacks
    seconds: float
    file_bytes: int
    model_bytes: int
    start_bytes: int  # of the process before anything is read: Python, torch and this library themselves
    peak_bytes: int  # of the process

    @property
    def ratio(self) -> float:
        """What the conversion added, over the bytes of file and model together."""
        return (self.peak_bytes - self.start_bytes) / (self.file_bytes + self.model_bytes)

    @property
    def whole_ratio(self) -> float:
        """The same for the whole process."""
        return self.peak_bytes / (self.file_bytes + self.model_bytes)

    @property
    def whole(self) -> bool:
        """Whether nothing is missing and nothing is left over without a reason."""
        return not self.unexplained and not self.missing


def random_state(keys: Mapping[str, Iterable[int]], twins: Iterable[Iterable[str]] = ()) -> dict[str, Tensor]:
    """Random values under those names; each of `twins` names one tensor several times."""
    state = {name: torch.randn(tuple(shape)) * 0.02 for name, shape in keys.items()}
    for first, *others in twins:
        state |= {name: state[first] for name in others}
    return state


def convert_once(listed: Path, checkpoint: Path, out: Path) -> Cost:
    """Convert a file, in this process, as the command line does."""
    # Not above: the process that writes the file does without.
    from uniperceiver.model.official.variant import Choices
    from uniperceiver.serving.convert import convert_checkpoint

    before, start = _peak(), time.perf_counter()
    done = convert_checkpoint(checkpoint, out, Choices())
    seconds = time.perf_counter() - start
    peak = _peak()
    parameters = dict(done.saved.model.named_parameters())
    with safe_open(out / "model.safetensors", "pt") as file:
        saved = set(file.keys())
    lines = done.converted.lines
    return Cost(
        model=listed.stem.removeprefix("keys_"),
        used=sum(line.target is not None for line in lines),
        unused=dict(Counter(line.reason for line in lines if line.reason)),
        unexplained=sum(line.target is None and not line.reason for line in lines),
        missing=len(set(parameters) - saved),
        seconds=seconds,
        file_bytes=checkpoint.stat().st_size,
        model_bytes=sum(parameter.numel() * parameter.element_size() for parameter in parameters.values()),
        start_bytes=before,
        peak_bytes=peak,
    )


def _peak() -> int:
    """The most memory that this process has held, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux: ru_maxrss would begin with what the process had that started this one
        match = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"))
        assert match is not None
        return int(match[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(listed: Path, folder: Path | None = None) -> Cost:
    """Write the checkpoint, convert it in a process of its own, and delete both.

    Args:
        folder: where the temporary folder is made; None: where the system has it.

    Raises:
        SystemExit: there is too little memory or disk for it.
    """
    values = json.loads(listed.read_text(encoding="utf-8"))
    size = _FLOAT * sum(prod(shape) for shape in values["keys"].values())
    with tempfile.TemporaryDirectory(dir=folder) as name:
        _refuse_too_large(listed, size, Path(name))
        checkpoint, out = Path(name) / "original.pth", Path(name) / "model"
        _in_a_process("--write", listed, checkpoint)
        return Cost(**json.loads(_in_a_process("--convert", listed, checkpoint, out)))


def _in_a_process(*words: str | Path) -> str:
    command = [sys.executable, "-m", "benchmarks.convert", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _refuse_too_large(listed: Path, size: int, folder: Path) -> None:
    disk = shutil.disk_usage(folder).free
    if disk < 2.1 * size:
        sys.exit(f"{listed.name}: needs {2.1 * size / 1e9:.1f} GB of disk in {folder}, {disk / 1e9:.1f} GB are free")
    if _MEMINFO.exists():
        meminfo = dict(line.split(":") for line in _MEMINFO.read_text().splitlines())
        memory = int(meminfo["MemAvailable"].split()[0]) * 1024
        if memory < 2 * GOAL * size:
            sys.exit(f"{listed.name}: needs {2 * GOAL * size / 1e9:.1f} GB of memory, {memory / 1e9:.1f} GB are free")


def _line(cost: Cost) -> str:
    judged = "" if cost.ratio <= GOAL else f"  beyond {GOAL}"
    left = "" if cost.whole else f"  MISSING {cost.missing}, UNEXPLAINED {cost.unexplained}"
    return (
        f"{cost.model:50s} {cost.used:5d} used {sum(cost.unused.values()):4d} not  {cost.seconds:6.1f} s  "
        f"{cost.file_bytes / 1e6:6.0f} MB file  {cost.peak_bytes / 1e6:6.0f} MB peak, {cost.ratio:.2f} of file and "
        f"model ({cost.whole_ratio:.2f} with the {cost.start_bytes / 1e6:.0f} MB of Python and torch){judged}{left}"
    )


def _files(paths: Iterable[Path]) -> list[Path]:
    return [file for path in paths for file in (sorted(path.glob("keys_*.json")) if path.is_dir() else [path])]


def _part(options: argparse.Namespace) -> int:
    """What the processes of `measure` do."""
    listed, *paths = options.keys
    if options.write:
        values = json.loads(listed.read_text(encoding="utf-8"))
        torch.save({"model": random_state(values["keys"], values.get("shared_tensors", ()))}, paths[0])
    else:
        print(json.dumps(asdict(convert_once(listed, *paths))))
    return 0


def main() -> int:
    """Print a line for each model, and its reasons not to use a tensor."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("keys", nargs="+", type=Path, metavar="KEYS", help="a JSON file, or a folder of keys_*.json")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the files are written, one at a time")
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--convert", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write or options.convert:
        return _part(options)
    costs = []
    for listed in _files(options.keys):
        costs.append(measure(listed, options.folder))
        print(_line(costs[-1]), flush=True)
    for reason, count in Counter(reason for cost in costs for reason in cost.unused).items():
        print(f"not used in {count} of {len(costs)} models: {reason}")
    if options.json:
        rows = [asdict(cost) | {"ratio": cost.ratio, "whole_ratio": cost.whole_ratio} for cost in costs]
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0 if costs and all(cost.whole and cost.ratio <= GOAL for cost in costs) else 1


if __name__ == "__main__":
    sys.exit(main())
