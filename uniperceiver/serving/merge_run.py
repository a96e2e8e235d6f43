"""RUN -> MERGED MODEL: a run's experts are folded into plain weights, and what that costs is told."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uniperceiver.errors import UserError
from uniperceiver.model.merge import MergedSize
from uniperceiver.serving import saved as files
from uniperceiver.serving.locate import model_folder
from uniperceiver.serving.merge import merge, note


def merge_run(path: Path, out: Path, tasks: Sequence[str] | None = None) -> dict[str, Any]:
    """Save the merged model of a run or saved model in a folder of its own.

    Args:
        tasks: names of the run's tasks; None: all of them.

    Returns:
        {"model", "routed", "tasks": {name: size}, "together"}; a size has "rows", "parameters" and, where merging
        saves no memory, a "note"; of the routed model, "rows" are its experts.

    Raises:
        UserError: there is no model, it cannot be merged, or the folder cannot be used.
    """
    folder = model_folder(path)
    if out.exists() and out.resolve() == folder.resolve():
        raise UserError(f"--out {out}: is the model itself, whose experts would be lost; give another folder")
    files.refuse_foreign(out)
    merged = merge(files.load(folder), tasks)
    files.save(out, merged.saved)
    sizes = merged.merging
    return {
        "model": str(out),
        "routed": {"rows": sizes.routed.rows, "parameters": sizes.routed.parameters},
        "tasks": {name: _told(size, sizes.routed) for name, size in sizes.alone.items()},
        "together": _told(sizes.together, sizes.routed),
    }


def _told(size: MergedSize, routed: MergedSize) -> dict[str, Any]:
    said = note(size, routed)
    return {"rows": size.rows, "parameters": size.parameters, **({"note": said} if said else {})}


def as_text(report: dict[str, Any]) -> list[str]:
    """A table for people."""
    sizes = {
        "with experts": report["routed"],
        **{f"{name} alone": size for name, size in report["tasks"].items()},
        "all of them, as saved": report["together"],
    }
    width = max(map(len, sizes))
    lines = [f"{'':{width}}  {'rows':>4}  {'parameters':>13}"]
    for name, size in sizes.items():
        line = f"{name:{width}}  {size['rows']:>4}  {size['parameters']:>13,}"
        lines.append(f"{line}  {size['note']}" if "note" in size else line)
    return [*lines, f"model: {report['model']}"]
