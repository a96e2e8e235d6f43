"""Recipes: every misspelt key is refused with the right one offered; values, paths and names are checked early."""

import ast
import dataclasses
import itertools
import random
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.small_run import IMAGES, merged, small_recipe, values_of, write_recipe
from uniperceiver.config import Recipe, TaskConfig, parse_recipe, read_overrides, read_recipe
from uniperceiver.data.formats import open_source
from uniperceiver.errors import UserError
from uniperceiver.runs.folder import save_recipe, saved_recipe
from uniperceiver.strict import key_names, parse, read_yaml

ROOT = Path(__file__).parents[2]
RECIPES = sorted([*(ROOT / "uniperceiver" / "recipes").glob("*.yaml"), *(ROOT / "examples").glob("*.yaml")])
RECIPES.remove(ROOT / "examples" / "study.yaml")
# Below these keys, names are the user's own.
OWN_NAMES = {"tasks", "labels"}
SOURCES = {"train", "val", "test"}


def key_paths(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """All keys of nested mappings that are not the user's own names."""
    for key, value in values.items() if isinstance(values, dict) else ():
        if not path or path[-1] not in OWN_NAMES:
            yield (*path, key)
        yield from key_paths(value, (*path, key))


def typos(word: str) -> list[str]:
    """A letter dropped, doubled, or swapped with the next."""
    rng = random.Random(word)
    place = rng.randrange(1, max(len(word) - 1, 2))
    dropped = word[:place] + word[place + 1 :]
    doubled = word[:place] + word[place - 1 :]
    swapped = word[: place - 1] + word[place : place + 1] + word[place - 1] + word[place + 1 :]
    return [each for each in (dropped, doubled, swapped) if each not in ("", word)]


def renamed(values: dict[str, Any], path: tuple[str, ...], name: str) -> dict[str, Any]:
    """The values with the last key of `path` called `name`."""
    first, *rest = path
    if not rest:
        return {name if key == first else key: value for key, value in values.items()}
    return {**values, first: renamed(values[first], tuple(rest), name)}


def misspelt(path: Path) -> Iterator[tuple[dict[str, Any], tuple[str, ...], str]]:
    values = yaml.safe_load(path.read_text())
    for keys in key_paths(values):
        for typo in typos(keys[-1]):
            yield renamed(values, keys, typo), keys, typo


def error_of(values: dict[str, Any], keys: tuple[str, ...]) -> str:
    """The message about a misspelt recipe; of a source's key, when the source is opened."""
    try:
        recipe = parse(Recipe, values, "r.yaml")
        if len(keys) == 4 and keys[2] in SOURCES:
            open_source(getattr(recipe.tasks[keys[1]], keys[2]), ".".join(keys[:3]), Path())
    except UserError as error:
        return str(error)
    raise AssertionError(f"{keys} was misspelt, and nobody noticed")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_typo_of_every_key_is_refused(path: Path) -> None:
    seen = 0
    for values, keys, typo in misspelt(path):
        message = error_of(values, keys)
        assert "\n" not in message
        if keys[-1] == "format":  # without it nobody knows what the other keys may be
            assert "key 'format' is missing; choose one of" in message
        else:
            assert f"{typo}'; did you mean {keys[-1]!r}?" in message, message
        seen += 1
    assert seen > 40


@pytest.mark.parametrize("field", key_names(Recipe))
def test_every_key_at_the_top(field: str) -> None:
    for typo in typos(field):
        with pytest.raises(UserError, match=f"unknown key '{typo}'; did you mean '{field}'"):
            parse(Recipe, {**values_of(), typo: 1}, "r.yaml")


def test_every_key_of_every_section() -> None:
    sections = {field.name: field.type for field in dataclasses.fields(Recipe) if isinstance(field.type, type)}
    assert len([each for each in sections.values() if dataclasses.is_dataclass(each)]) >= 8
    for section, cls in sections.items():
        for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
            for typo in typos(field.name):
                if typo not in {each.name for each in dataclasses.fields(cls)}:
                    message = error_of(merged(values_of(), {f"{section}.{typo}": 1}), ())
                    assert f"unknown key '{section}.{typo}'; did you mean '" in message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("steps", "many", "key 'steps' has a wrong value 'many': input should be a valid integer"),
        ("steps", 0, "key 'steps' has a wrong value 0: input should be greater than 0"),
        ("steps", 1.5, "key 'steps' has a wrong value 1.5"),
        ("steps", None, "key 'steps' has a wrong value None"),
        ("seed", [1], "key 'seed' has a wrong value"),
        ("late_from", 2, "key 'late_from' has a wrong value 2"),
        ("model", 3, "model must be a mapping of keys to values, found 3"),
        ("model.size", [1], "key 'model.size' has a wrong value"),
        ("model.vocabulary", -1, "key 'model.vocabulary' has a wrong value -1"),
        ("model.drop_path", 1.0, "key 'model.drop_path' has a wrong value 1.0"),
        ("optimiser.betas", [0.9, 95], "key 'optimiser.betas.1' has a wrong value 95: input should be less than 1"),
        ("optimiser.betas", [0.9], "key 'optimiser.betas.1'|optimiser.betas"),
        ("optimiser.lr", float("nan"), "key 'optimiser.lr' has a wrong value nan"),
        ("optimiser.lr", float("inf"), "key 'optimiser.lr' has a wrong value inf: input should be a finite number"),
        ("optimiser.lr", "fast", "key 'optimiser.lr' has a wrong value 'fast'"),
        ("sampling.mode", "both", "key 'sampling.mode' has a wrong value 'both'"),
        ("tasks", {}, "key 'tasks' has a wrong value"),
        ("tasks", None, "key 'tasks' has a wrong value None"),
        ("tasks.colours", None, "tasks.colours must be a mapping"),
        ("tasks.colours.batch", -3, "key 'tasks.colours.batch' has a wrong value -3"),
        ("tasks.colours.weight", 0, "key 'tasks.colours.weight' has a wrong value 0"),
        ("tasks.colours.train", "folder", "key 'tasks.colours.train' has a wrong value 'folder'"),
        ("tasks.colours.augment.flip", 2, "key 'tasks.colours.augment.flip' has a wrong value 2"),
    ],
)
def test_a_wrong_value_is_named(key: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"^r\.yaml: ({message})") as caught:
        parse(Recipe, merged(values_of(), {key: value}), "r.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named() -> None:
    values = values_of()
    del values["tasks"]["colours"]["kind"]
    with pytest.raises(UserError, match=r"r.yaml: key 'tasks.colours.kind' is missing; add it"):
        parse(Recipe, values, "r.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks: [", "not valid YAML"),
        ("- a\n- b\n", "expected a mapping of keys to values, found list"),
        ("", "expected a mapping of keys to values, found NoneType"),
        ("steps: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"r\.yaml: {message}") as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent.yaml: no such file; give the path of a recipe"):
        read_recipe(tmp_path / "absent.yaml")


def test_overrides(tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "r.yaml", values_of())
    words = ["steps=7", "optimiser.lr=3e-4", "tasks.colours.augment.flip=0.5", "tasks.colours.labels={red: [a=b, c]}"]
    recipe = read_recipe(path, read_overrides([*words, "device=cpu", "data.max_broken=1"]))
    assert (recipe.steps, recipe.optimiser.lr, recipe.data.max_broken) == (7, 3e-4, 1.0)
    assert isinstance(recipe.optimiser.lr, float)
    assert recipe.tasks["colours"].augment.flip == 0.5
    assert recipe.tasks["colours"].labels == {"red": ["a=b", "c"]}
    assert recipe.tasks["captions"] == small_recipe().tasks["captions"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("stepz=3", "unknown key 'stepz'; did you mean 'steps'"),
        ("optimiser.lrr=3", "unknown key 'optimiser.lrr'; did you mean 'lr'"),
        ("steps.more=3", "steps.more=3: 'steps' is not a section"),
        ("steps=[", r"steps=\[: not valid YAML .*; if it is meant as a text, write 'steps=.\[.'$"),
        ("seed=3 #4", "seed=3 #4: YAML takes '#4' for a comment; leave it out, or write 'seed=.3 #4.'$"),
        ("model.start=#", "model.start=#: YAML takes '#' for a comment"),
        ("steps=yes", "key 'steps' has a wrong value: input should be a number, and YAML reads yes, no, on and off as"),
        ("steps=three", "key 'steps' has a wrong value 'three'"),
        ("=3", "unknown key ''"),
    ],
)
def test_a_wrong_override(tmp_path: Path, word: str, message: str) -> None:
    path = write_recipe(tmp_path / "r.yaml", values_of())
    with pytest.raises(UserError, match=message):
        read_recipe(path, read_overrides([word]))


def test_what_a_message_about_an_override_offers_works(tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "r.yaml", values_of())
    for text in ("a #1", "*.png", "%x", '{0..3} "x".tar'):
        with pytest.raises(UserError) as caught:
            read_recipe(path, {"model.start": text})
        (word,) = shlex.split(str(caught.value).rpartition(" write ")[2])
        assert read_recipe(path, read_overrides([word])).model.start == text
    assert read_recipe(path, {"model.start": "a#1"}).model.start == "a#1"


def test_a_word_that_is_no_override() -> None:
    with pytest.raises(UserError, match="'steps': expected key=value"):
        read_overrides(["steps"])


def test_an_override_changes_one_use_of_an_anchor(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    kind = "{kind: image_captioning, train: "
    path.write_text(f"tasks:\n  a: {kind}&one {{format: scenes, items: 3}}}}\n  b: {kind}*one}}\n")
    recipe = read_recipe(path, {"tasks.a.train.items": "4"})
    assert recipe.tasks["a"].train == {"format": "scenes", "items": 4}
    assert recipe.tasks["b"].train == {"format": "scenes", "items": 3}


def test_variables_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    source = {"format": "text", "path": ["${SOME_DATA}/a.txt", "b.txt"]}
    path = write_recipe(tmp_path / "r.yaml", values_of(("words",), tasks__words__train=source))
    monkeypatch.delenv("SOME_DATA", raising=False)
    with pytest.raises(UserError, match=r"'\${SOME_DATA}/a.txt' needs the environment variable SOME_DATA; set it"):
        read_recipe(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOME_DATA", "data")  # relative to where the command is given
    train = read_recipe(path).tasks["words"].train
    assert train is not None
    assert train["path"] == [str(tmp_path.resolve() / "data" / "a.txt"), "b.txt"]


def test_a_variable_is_a_path_only_where_a_path_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "data")
    train = {"format": "csv", "path": "${A}", "label": "${A}", "image": "${A}/x", "files": "up/${A}"}
    path = write_recipe(tmp_path / "r.yaml", values_of(("words",), tasks__words__train=train, device="${A}"))
    recipe = read_recipe(path)
    assert recipe.device == "data"
    expected = {"path": str(Path("data").resolve()), "label": "data", "image": "data/x", "files": "up/data"}
    assert recipe.tasks["words"].train == {"format": "csv", **expected}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("steps: 1\nsteps: 2\ntasks: {}", "steps"),
        ("tasks:\n  a: {kind: x}\n  b: {kind: x}\n  a: {kind: y}", "a"),
        ("tasks: {1: {kind: x}, '1': {kind: y}}", "1"),
    ],
)
def test_equal_keys_are_refused(text: str, key: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(UserError, match=f"r.yaml: not valid YAML .key '{key}' stands twice; rename or remove one in"):
        read_recipe(tmp_path / "r.yaml")


def test_keys_that_are_merged_may_be_equal(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("a: &a {x: 1}\nb: {<<: *a, x: 2}")
    assert read_yaml(tmp_path / "r.yaml")["b"] == {"x": 2}


def test_a_key_that_is_given_twice_is_refused() -> None:
    with pytest.raises(UserError, match="steps is given twice, as '1' and '2'; give it once"):
        read_overrides(["steps=1", "seed=3", "steps=2"])
    with pytest.raises(UserError, match=r"model={size: a, size: b}: not valid YAML .key 'size' stands twice"):
        parse_recipe({}, {"model": "{size: a, size: b}"}, "r.yaml")


def test_a_saved_recipe_is_the_same_recipe(tmp_path: Path) -> None:
    recipe = small_recipe(optimiser__betas=(0.5, 0.75), tasks__colours__train={**IMAGES, "label": "colour"})
    save_recipe(recipe, tmp_path / "some: where", tmp_path)
    assert saved_recipe(tmp_path) == (recipe, (tmp_path / "some: where").resolve())
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]
    (tmp_path / "recipe.yaml").write_text("")
    with pytest.raises(UserError, match=r"recipe.yaml: expected a mapping"):
        saved_recipe(tmp_path)


def test_every_knob_has_a_sentence() -> None:
    trees = [ast.parse(path.read_text()) for path in (ROOT / "uniperceiver" / "config").glob("*.py")]
    knobs = 0
    for part in [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]:
        for knob, after in itertools.pairwise([*part.body, ast.Pass()]):
            if isinstance(knob, ast.AnnAssign) and not (part.name == "Recipe" and "Config" in ast.unparse(knob)):
                knobs += 1
                assert isinstance(after, ast.Expr), ast.unparse(knob)
    assert knobs > 60


@pytest.mark.parametrize(
    ("key", "meant"),
    [("learning_rate", "optimiser.lr"), ("batch_size", "tasks.NAME.batch"), ("weight_decay", "optimiser.weight_decay"),
     ("epochs", "steps"), ("workers", "data.workers"), ("tsaks", "tasks"), ("optimser", "optimiser")],
)  # fmt: skip
def test_a_key_that_stands_elsewhere_is_offered(key: str, meant: str) -> None:
    values = {"tasks": {"a": {"kind": "masked_language_modelling", "train": {"format": "text", "path": "x"}}}, key: 1}
    with pytest.raises(UserError, match=rf"unknown key '{key}'; did you mean '{meant}'\?$"):
        parse_recipe(values, {}, "r")


def test_keys_that_others_use_lead_to_keys_that_there_are() -> None:
    for path in Recipe.other_names.values():
        cls: Any = Recipe
        for part in path.split("."):
            if part == "NAME":
                cls = TaskConfig
                continue
            names = {field.name: field for field in dataclasses.fields(cls)}
            assert part in names, path
            cls = type(names[part].default) if dataclasses.is_dataclass(names[part].default) else cls
