"""PYTHON FILES THAT A RECIPE NAMES: lines of one's own in the library's tables, kept with every run and model.

A file is read once, so that what is executed is what is saved. It is executed where somebody has asked for it: by a
recipe that is trained, or with trust in a saved model. A model alone never does it.
"""

import hashlib
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from uniperceiver.errors import UserError


@dataclass(frozen=True, kw_only=True)
class OwnCode:
    """A Python file with its text."""

    name: str  # of the file, such as my_condition.py
    text: str
    path: Path  # where it was read

    @property
    def sha256(self) -> str:
        """Which text it is, in hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def module(self) -> str:
        """The name of the module that it becomes: another text is another module."""
        return f"uniperceiver_own_{self.path.stem}_{self.sha256[:12]}"

    @property
    def executed(self) -> bool:
        """Whether this process has executed this very text."""
        return self.module in sys.modules


def read_code(files: Iterable[str | Path], base: Path) -> tuple[OwnCode, ...]:
    """Read Python files without executing them; relative paths start at `base`.

    Raises:
        UserError: a file is not there, is none of Python, or has the name of another.
    """
    codes: dict[str, OwnCode] = {}
    for file in files:
        path = base / Path(file).expanduser()
        if path.suffix != ".py":
            raise UserError(f"import: {path}: is no Python file; name one that ends in .py")
        try:
            code = OwnCode(name=path.name, text=path.read_text(encoding="utf-8"), path=path.resolve())
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not in UTF-8"
            raise UserError(f"import: {path}: cannot be read ({reason}); paths start at the recipe's folder") from None
        if path.name in codes:
            raise UserError(f"import: two files are called {path.name}; rename one, as both lie beside the model")
        codes[path.name] = code
    return tuple(codes.values())


def execute(codes: Iterable[OwnCode]) -> None:
    """Execute files, each once in a process.

    Raises:
        UserError: a file raises an error; its line is said.
    """
    for code in codes:
        if code.executed:
            continue
        module = ModuleType(code.module)
        module.__file__ = str(code.path)
        sys.modules[code.module] = module  # before it is executed, as `import` does: dataclasses look there
        try:
            exec(compile(code.text, str(code.path), "exec"), module.__dict__)
        except Exception as error:
            del sys.modules[code.module]
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(code.path)]
            line = frames[-1].lineno if frames else getattr(error, "lineno", None) or 1
            raise UserError(
                f"import: {code.path}:{line}: {type(error).__name__}: {' '.join(str(error).split())}; mend the file"
            ) from error


def import_code(files: Sequence[str], base: Path) -> tuple[OwnCode, ...]:
    """Read and execute the files that a recipe names (`import`); relative paths start at `base`.

    Raises:
        UserError: a file cannot be read or raises an error.
    """
    codes = read_code(files, base)
    execute(codes)
    return codes


def refuse_unknown(codes: Sequence[OwnCode]) -> None:
    """Refuse what lies beside a saved model and was not executed in this process: nobody has said that it is trusted.

    Raises:
        UserError: there is such a file; where it is, is said.
    """
    unknown = [code for code in codes if not code.executed]
    if unknown:
        raise UserError(
            f"{unknown[0].path.parent}: needs code of its own, {', '.join(code.name for code in unknown)}, which would "
            "be executed on this machine; read it there, then give --trust (from Python: trust=True)"
        )


def joined(codes: Iterable[OwnCode], others: Iterable[OwnCode]) -> tuple[OwnCode, ...]:
    """All of two sets of files.

    Raises:
        UserError: two files have one name and other texts.
    """
    by_name = {code.name: code for code in codes}
    for code in others:
        if by_name.setdefault(code.name, code).sha256 != code.sha256:
            raise UserError(
                f"import: {by_name[code.name].path} and {code.path} have one name and other texts, and both are "
                "needed; rename the first"
            )
    return tuple(by_name.values())
