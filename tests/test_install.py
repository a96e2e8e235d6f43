"""What a user installs: the library works without its optional parts, and the demo asks for none."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.clips import write_clip
from tests.markdown import ROOT, read
from tests.small_run import small_recipe, train
from uniperceiver.data.prepare.recode import small_clip
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.errors import UserError

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OPTIONAL = ("av", "datasets", "ftfy", "mypy", "pandas", "pillow_heif", "pyarrow", "pycocoevalcap", "tensorboard")


def make(target: str, tmp_path: Path) -> str:
    """What make would do where nothing is installed."""
    words = ["make", "-n", target, f"VENV={tmp_path / 'venv'}"]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_demo_installs_no_tools_and_no_optional_parts(tmp_path: Path) -> None:
    assert "[dev]" not in make("demo", tmp_path)
    assert "-e .\n" in make("demo", tmp_path)
    assert "[dev]" in make("test", tmp_path)


def test_the_extra_all_has_every_part_that_is_not_for_developers() -> None:
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    for_clusters = {"ray"}  # 240 MB that a single machine has no use for
    others = {"all", "dev", *for_clusters}
    assert set(everything.removeprefix("uniperceiver[").rstrip("]").split(",")) == extras.keys() - others
    assert "uniperceiver[all]" in extras["dev"]


def test_the_readme_names_the_range_of_torch() -> None:
    (torch,) = [line for line in PROJECT["dependencies"] if line.startswith("torch")]
    assert f"`{torch}`" in read("README.md")
    assert f'"{torch}"' in read("Makefile")


@pytest.mark.slow
def test_the_public_face_needs_no_optional_part() -> None:
    code = (
        f"import sys\nsys.modules.update(dict.fromkeys({OPTIONAL}))\n"
        "import uniperceiver\n[getattr(uniperceiver, name) for name in uniperceiver.__all__]\n"
        "import uniperceiver.cli.parser, uniperceiver.data.prepare.prepare, uniperceiver.studies.study"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_clips_in_files_are_refused_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("left", "right"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        write_clip(str(tmp_path / "clips" / name / "a.mp4"), 4, "mp4", "mpeg4")
    monkeypatch.setitem(sys.modules, "av", None)
    source = {"format": "folder", "path": "clips"}
    recipe = small_recipe(("motions",), steps=1, tasks__motions__train=source, tasks__motions__val=None)
    with pytest.raises(
        UserError, match="clips and sounds are decoded with the package av, which is missing; pip install av"
    ):
        train(tmp_path / "run", recipe, base=tmp_path)
    assert not (tmp_path / "run").exists()
    train(tmp_path / "run", small_recipe(("motions",), steps=1))  # generated ones are not encoded
    clip = ScenesSource(items=1, view="clip", pixels=32).read(0).clip
    assert clip is not None
    with pytest.raises(UserError, match="pip install av"):
        small_clip(clip, 16, "x")
