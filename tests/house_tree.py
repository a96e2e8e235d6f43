"""The rules that hold between files: each takes many parsed files and returns one line per violation.

Also the counts that only have a ceiling: names that say nothing, and small private functions that are used once.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import PurePosixPath

from tests.house import PACKAGE, Function, Source

# Features, each with a pattern of what its files and folders are called, and in how many folders of the package it may
# lie beside cli/ and report/: two, or more for the reason that stands there.
FEATURES: Mapping[str, tuple[str, int]] = {
    "interference": (r"interference", 2),
    "studies": (r"stud(y|ies)", 1),
    # What is merged is a linear map (moe/), a model (model/) or a folder with a saved model (serving/).
    "merging": (r"merged?|fold", 3),
    "tuning": (r"tun(e|ing)", 1),
    "official checkpoints": (r"official|convert|origin", 2),
    "preparation of data": (r"inspector|recode|shard_writer", 1),
    "balancing": (r"balance|balanced", 2),
    # A split's gates are read in evaluation/, a run's are shown by runs/, and training/ follows those that it trains.
    "choices of experts": (r"experts", 3),
    # A kind of answer has a file in tasks/ and one in evaluation/; captions of COCO are a format of data/.
    "captions": (r"captions?|ngrams|ptb", 3),
}
BESIDE = ("cli", "report")

VAGUE = frozenset({"one", "each", "found", "wanted", "given", "ours", "theirs", "known", "several", "told", "said"})
CRUMB = 5  # lines; a private function that is used once and has fewer reads better where it is used


def crowded_folders(sources: Iterable[Source], limit: int) -> Iterator[str]:
    """Folders with more than `limit` Python files at one level."""
    counts = Counter(PurePosixPath(source.path).parent.as_posix() for source in sources)
    for folder, count in sorted(counts.items()):
        if count > limit:
            yield f"{folder}: {count} files, more than {limit}; join what is only read together, or make folders"


def import_circles(sources: Iterable[Source]) -> Iterator[str]:
    """A circle of files that import each other when they are loaded; the first that is met."""
    files = {_module_of(source.path): source for source in sources}
    graph = {
        name: {module for module in _loaded_with(source, files) if module != name} for name, source in files.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = [files[name].path for name in reversed(error.args[1])]
        yield f"{circle[0]}: imports itself: {' -> '.join(circle)}"


def _module_of(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _loaded_with(source: Source, files: Mapping[str, Source]) -> Iterator[str]:
    """Modules that are imported when this one is; not those that wait for a call or stand there for types alone."""
    waiting: list[ast.AST] = list(source.tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, Function | ast.Lambda) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        ):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                if module in files or node.module in files:
                    yield module if module in files else node.module
        waiting.extend(ast.iter_child_nodes(node))


def same_classes(sources: Iterable[Source]) -> Iterator[str]:
    """Public classes of one name in two files."""
    homes: dict[str, list[str]] = {}
    for source in sources:
        for node in source.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(source.path)
    for name, paths in sorted(homes.items()):
        if len(paths) > 1:
            yield f"{paths[0]}: class {name} is also in {', '.join(paths[1:])}; say in the name what it is of"


def scattered(sources: Iterable[Source], name: str) -> Iterator[str]:
    """A feature whose files lie in more folders than it may."""
    pattern, limit = FEATURES[name]
    folders = folders_of(sources, pattern)
    if len(folders) > limit:
        yield f"{name}: lies in {', '.join(folders)}, more than {limit} folders; bring it together"


def folders_of(sources: Iterable[Source], pattern: str) -> list[str]:
    """The rooms of the package, beside the command line and the report, with files named after a feature."""
    named = re.compile(rf"(?:^|_)(?:{pattern})(?:_|$)")
    rooms = set()
    for source in sources:
        room, *inside = source.path.removeprefix(f"{PACKAGE}/").removesuffix(".py").split("/")
        if room not in BESIDE and any(named.search(part) for part in (room, *inside)):
            rooms.add(room)
    return sorted(rooms)


def vague_names(sources: Iterable[Source]) -> list[str]:
    """Where variables, parameters, functions and classes have names that say nothing."""
    lines = []
    for source in sources:
        for node in ast.walk(source.tree):
            name = _name_given(node)
            if name in VAGUE:
                lines.append(f"{source.path}:{getattr(node, 'lineno', 0)}: {name!r} says nothing; name the thing")
    return lines


def _name_given(node: ast.AST) -> str | None:
    """The name that a node gives to something."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return node.id
    if isinstance(node, ast.arg):
        return node.arg
    return node.name if isinstance(node, Function | ast.ClassDef) else None


def crumbs(sources: Iterable[Source]) -> list[str]:
    """Private functions that are used once and have fewer than five lines."""
    return [line for source in sources for line in _crumbs_of(source)]


def _crumbs_of(source: Source) -> Iterator[str]:
    for function in used_once(source):
        if (lines := (function.end_lineno or 0) - function.lineno + 1) < CRUMB:
            yield f"{source.path}:{function.lineno}: {function.name} has {lines} lines and is used once; write it there"


def used_once(source: Source) -> Sequence[Function]:
    """Private functions and methods that their file names once."""
    nodes = list(ast.walk(source.tree))
    uses = Counter(node.id for node in nodes if isinstance(node, ast.Name))
    uses.update(node.attr for node in nodes if isinstance(node, ast.Attribute))
    private = [node for node in nodes if isinstance(node, Function) and node.name.startswith("_")]
    return [node for node in private if not node.name.startswith("__") and uses[node.name] == 1]
