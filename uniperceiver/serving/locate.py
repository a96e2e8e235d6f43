"""Where a model lies: in a saved directory, in a run, or on the Hugging Face hub; and whether a file lies anywhere.

Nothing here imports torch: a wrong path is told at once.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from uniperceiver.errors import UserError

_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_FILES = [
    "config.json",
    "model.safetensors",
    "tuned.safetensors",
    "tokenizer.json",
    "preprocess.json",
    "README.md",
    "*.py",
]


def model_folder(path: str | Path) -> Path:
    """The directory with the model's files.

    A local path comes first. OWNER/NAME, where there is no folder OWNER, is a model on the hub, of which only the
    files of a saved model are fetched.

    Raises:
        UserError: there is no model.
    """
    folder = Path(path)
    for place in (folder / "model", folder):
        if (place / "config.json").is_file():
            return place
    if not folder.parent.exists() and may_be_on_hub(str(path)):
        return _from_hub(str(path))
    raise UserError(f"{path}: neither a saved model (config.json) nor a run with one (model/config.json)")


def is_export(path: str | Path) -> bool:
    """Whether an export lies there: graphs, which answer without torch.

    Raises:
        UserError: there is neither a model nor an export.
    """
    from uniperceiver.records.exported import EXPORT_FILE  # records need numpy, and help does not

    return (model_folder(path) / EXPORT_FILE).is_file()


def refuse_of_export(path: str | Path, *, has_code: bool) -> None:
    """Refuse what only a run or a model has.

    Args:
        has_code: a step or code of one's own is asked for.

    Raises:
        UserError: it is.
    """
    if has_code:
        raise UserError(f"{path}: an export has no steps and no code; leave --step and --trust out")


def refuse_nowhere(path: str | Path, files: Iterable[str] = ()) -> None:
    """Refuse a path at which no model lies, before anything slow is imported; what may be on the hub is not asked for.

    Args:
        files: names of files and folders that must be there, too.

    Raises:
        UserError: there is no model, or no such file.
    """
    if Path(path).parent.exists() or not may_be_on_hub(str(path)):
        model_folder(path)
    refuse_missing(files)


def refuse_missing(words: Iterable[str]) -> None:
    """Refuse names of files or folders that are not there.

    Raises:
        UserError: one of them is not.
    """
    for word in words:
        try:
            os.stat(word)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            mend = "give the path of a file or folder, or --text if it is a text"
            raise UserError(f"{word}: cannot be read ({reason}); {mend}") from None


def may_be_on_hub(path: str) -> bool:
    """Whether it looks like OWNER/NAME, and not like a path that leads upwards or is absolute."""
    return _HUB_ID.fullmatch(path) is not None


def _from_hub(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError(f"{name}: no such folder; to fetch it from the hub, pip install huggingface_hub") from None
    try:
        return Path(snapshot_download(name, allow_patterns=_FILES))
    except Exception as error:  # the library raises errors of many kinds: no network, no such model, no access
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{name}: no such folder, and not to be had from the hub ({reason})") from None
