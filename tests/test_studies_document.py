"""docs/studies.md: its commands exist, its study is read, all keys are explained."""

import dataclasses
from pathlib import Path

import pytest

from tests.markdown import ROOT, blocks, commands, read, section
from tests.small_run import values_of, write_recipe
from uniperceiver.cli.parser import parse
from uniperceiver.studies.plan import StudyConfig, read_plan

PAGE = "docs/studies.md"


@pytest.mark.parametrize("words", [words for block in blocks(PAGE, "bash") for words in commands(block)], ids=" ".join)
def test_a_command_of_the_page_exists(words: list[str]) -> None:
    assert words[0] == "uniperceiver"
    assert (ROOT / parse(words[1:]).keywords["study"]).is_file()


def test_the_study_of_the_page_is_read(tmp_path: Path) -> None:
    write_recipe(tmp_path / "routing.yaml", values_of(("captions", "words")))
    (block,) = blocks(PAGE, "yaml")
    (tmp_path / "study.yaml").write_text(block.text, encoding="utf-8")
    plan = read_plan(tmp_path / "study.yaml", tmp_path)
    assert len(plan.cells) == 5 * 3


def test_all_keys_are_explained() -> None:
    text = section(PAGE, "## The file")
    assert not [field.name for field in dataclasses.fields(StudyConfig) if f"| `{field.name}` |" not in text]  # type: ignore[arg-type]


def test_the_example_is_read(tmp_path: Path) -> None:
    plan = read_plan(ROOT / "examples/study.yaml", tmp_path)
    assert (plan.arms, plan.tasks) == (["shared", "task_specific", "attribute"], ["shapes", "words"])
    assert "docs/studies.md" in read("examples/study.yaml")
