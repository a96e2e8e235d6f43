"""The rules of the house as functions: each takes parsed files and returns one line per violation."""

import ast
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "uniperceiver"
# The floors of the house, from the ground up: folders and files directly under uniperceiver/. Each may import itself
# and whatever stands on a lower floor; rooms on one floor do not know each other.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "precision", "streams", "atomic", "waiting", "version", "boxes", "palette", "parallel"}),
    frozenset({"strict", "modalities", "devices", "own_code"}),
    frozenset({"records", "config", "interference"}),
    frozenset({"moe", "tasks", "tokenizers", "optimisation"}),
    frozenset({"model", "data"}),
    frozenset({"training", "evaluation", "serving"}),
    frozenset({"report", "runner"}),
    frozenset({"runs"}),
    frozenset({"studies", "server"}),
    frozenset({"__init__", "figures"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
# What a room does without although it stands below: a model is made from numbers, not from a recipe.
WITHOUT: dict[str, frozenset[str]] = {room: frozenset({"config"}) for room in ("tasks", "tokenizers", "model")}
ROOMS = frozenset().union(*FLOORS)
MAY_IMPORT: dict[str, frozenset[str]] = {
    room: frozenset({room}).union(*FLOORS[:floor]) - WITHOUT.get(room, frozenset())
    for floor, rooms in enumerate(FLOORS)
    for room in rooms
}

LOADERS_THAT_EXECUTE = frozenset({"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"})
# The one reader of other people's torch files, which asks torch for tensors and plain containers only.
READS_TORCH_FILES = "uniperceiver/model/official/reading.py"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, kw_only=True)
class Source:
    """A parsed Python file."""

    path: str  # from the root of the repository, with slashes
    text: str
    tree: ast.Module


def parse(path: str, text: str) -> Source:
    """A file with that path and text."""
    return Source(path=path, text=text, tree=ast.parse(text))


def read_sources(root: Path, *folders: str) -> list[Source]:
    """All Python files below those folders of the repository."""
    paths = sorted(path for folder in folders for path in (root / folder).rglob("*.py"))
    return [parse(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


def layer_of(path: str) -> str:
    """The folder or file directly under the package that a file belongs to: "training", "config"."""
    return path.split("/")[1].removesuffix(".py")


def wrong_imports(source: Source) -> Iterator[str]:
    """Imports against the floors, wherever in the file they stand."""
    layer = layer_of(source.path)
    if layer not in MAY_IMPORT:
        yield f"{source.path}: give {layer!r} a floor in FLOORS of tests/house.py"
        return
    allowed = MAY_IMPORT[layer]
    for line, imported in _imported_layers(source.tree):
        if imported not in allowed:
            yield f"{source.path}:{line}: {layer!r} may not import {imported!r}; it may import {sorted(allowed)}"


def kinds_of_answer_by_name(source: Source) -> Iterator[str]:
    """Comparisons of a task's `candidates` or `read_at` with a string, outside the room of the kinds of answers."""
    if source.path.startswith("uniperceiver/tasks/answers/"):
        return
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        attributes = {side.attr for side in sides if isinstance(side, ast.Attribute)}
        if attributes & {"candidates", "read_at", "answer_name"} and any(map(_holds_text, sides)):
            yield f"{source.path}:{node.lineno}: asks which kind of answer it is; ask `task.answer` what differs"


def relative_imports(source: Source) -> Iterator[str]:
    """Imports from a parent folder by dots."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and node.level > 1:
            yield f"{source.path}:{node.lineno}: import by the full name instead of {'.' * node.level}"


def long_files(source: Source, limit: int) -> Iterator[str]:
    """Files of more than `limit` lines."""
    if (lines := len(source.text.splitlines())) > limit:
        yield f"{source.path}: {lines} lines, more than {limit}; split it by meaning"


def long_functions(source: Source, limit: int) -> Iterator[str]:
    """Functions of more than `limit` lines, from `def` to their last line."""
    for function in _functions(source.tree):
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > limit:
            yield f"{source.path}:{function.lineno}: {function.name} has {lines} lines, more than {limit}; split it"


def long_classes(source: Source, limit: int) -> Iterator[str]:
    """Classes of more than `limit` lines, from `class` to their last line."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef) and (lines := (node.end_lineno or 0) - node.lineno + 1) > limit:
            yield f"{source.path}:{node.lineno}: {node.name} has {lines} lines, more than {limit}; split it"


def missing_annotations(source: Source) -> Iterator[str]:
    """Functions with a parameter or a result that has no annotation; `self` and `cls` need none."""
    classes = (node for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef))
    methods = {id(node) for definition in classes for node in definition.body}
    for function in _functions(source.tree):
        parameters = function.args
        named = [*parameters.posonlyargs, *parameters.args]
        static = any(isinstance(node, ast.Name) and node.id == "staticmethod" for node in function.decorator_list)
        skipped = 1 if id(function) in methods and not static else 0
        rest = [*named[skipped:], *parameters.kwonlyargs, *filter(None, (parameters.vararg, parameters.kwarg))]
        missing = [argument.arg for argument in rest if argument.annotation is None]
        missing += ["the result"] * (function.returns is None)
        if missing:
            yield f"{source.path}:{function.lineno}: {function.name} has no annotation for {', '.join(missing)}"


def prints(source: Source) -> Iterator[str]:
    """Calls of print outside the command line."""
    if layer_of(source.path) == "cli":
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{source.path}:{node.lineno}: print belongs into cli; return or log what there is to say"


def swallowed_errors(source: Source) -> Iterator[str]:
    """Bare `except:`, and handlers of Exception or BaseException that do nothing."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        if node.type is None:
            yield f"{source.path}:{node.lineno}: name the exception instead of a bare except"
        elif _names_every_error(node.type) and all(isinstance(step, ast.Pass | ast.Continue) for step in node.body):
            yield f"{source.path}:{node.lineno}: an error of any kind is swallowed; name it, or say what happened"


def pickles(source: Source) -> Iterator[str]:
    """Whatever executes code from a file: pickle and its relatives, torch.load and torch.save, allow_pickle."""
    safe = set(_weights_only(source.tree)) if source.path == READS_TORCH_FILES else set()
    for node in ast.walk(source.tree):
        for module in _imported_modules(node):
            executes = module.split(".")[0] in LOADERS_THAT_EXECUTE and module != "pickle.UnpicklingError"
            if executes or module in {"torch.load", "torch.save"}:
                yield f"{source.path}:{node.lineno}: imports {module}; write safetensors and JSON"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node not in safe:
            name = f"{node.value.id}.{node.attr}"
            if name in {"torch.load", "torch.save"}:
                yield f"{source.path}:{node.lineno}: {name} is pickle; write safetensors and JSON"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and not _is_false(node.value):
            yield f"{source.path}:{node.value.lineno}: allow_pickle; write safetensors or plain arrays"


def module_state(source: Source) -> Iterator[str]:
    """Functions that reassign names of their module."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Global):
            yield f"{source.path}:{node.lineno}: global {', '.join(node.names)}; hand it in as an argument"


def unread_fields(fields: Iterable[str], sources: Iterable[Source]) -> set[str]:
    """Names that no file reads as an attribute."""
    return set(fields) - {name for source in sources for name in attributes_read(source)}


def attributes_read(source: Source) -> Set[str]:
    """The names of all attributes that a file reads."""
    nodes = (node for node in ast.walk(source.tree) if isinstance(node, ast.Attribute))
    return {node.attr for node in nodes if isinstance(node.ctx, ast.Load)}


def _functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _imported_modules(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _imported_layers(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        for module in _imported_modules(node):
            first, *rest = module.split(".")
            if first == PACKAGE:
                # `from uniperceiver import load` is an import of the public face, not of a file called load.
                is_room = bool(rest) and rest[0] in ROOMS
                yield node.lineno, rest[0] if is_room or len(rest) > 1 else "__init__"


def _holds_text(node: ast.expr) -> bool:
    return any(isinstance(part, ast.Constant) and isinstance(part.value, str) for part in ast.walk(node))


def _names_every_error(node: ast.expr) -> bool:
    names = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(isinstance(name, ast.Name) and name.id in {"Exception", "BaseException"} for name in names)


def _weights_only(tree: ast.Module) -> Iterator[ast.AST]:
    """What is called as f(..., weights_only=True), literally."""
    for node in ast.walk(tree):
        for keyword in node.keywords if isinstance(node, ast.Call) else ():
            value = keyword.value
            if keyword.arg == "weights_only" and isinstance(value, ast.Constant) and value.value is True:
                yield node.func


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False
