"""An export is served by onnxruntime, and answers as the model that it was made of."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.exported import LABELS, ExportedModel, exported, tiny_saved
from tests.server.conftest import encoded
from tests.server.started import Served, started
from tests.sounds import tone, wave_bytes
from tests.tiny import hearing, tiny_task
from uniperceiver.cli import main

NAMES = ("image_classification", "image_captioning", "audio_classification")
SOUND = wave_bytes(tone(0.3, 8000), 8000)
PICTURE = np.random.default_rng(5).integers(0, 256, (40, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    saved = tiny_saved(NAMES, **hearing(tiny_task("audio_classification")))
    return exported(tmp_path_factory.mktemp("export") / "dense", saved)


@pytest.fixture(scope="module")
def served_export(export: ExportedModel) -> Iterator[Served]:
    with started(export.folder) as served:
        yield served


def test_answers_are_those_of_the_model(export: ExportedModel, served_export: Served) -> None:
    form = {"labels": "\n".join(label if isinstance(label, str) else label[0] for label in LABELS)}
    plain = [label if isinstance(label, str) else label[0] for label in LABELS]
    with served_export.client() as client:
        files = {"file": ("a.png", encoded(PICTURE))}
        answer = client.post("/v1/classify", files=files, data=form).json()["results"][0]
        caption = client.post("/v1/caption", files=files).json()["results"][0]["caption"]
        embedded = client.post("/v1/embed", json={"inputs": [{"text": "a red circle"}]}).json()
        facts = client.get("/v1/model").json()
        heard = client.post("/v1/classify", files={"file": SOUND}, data=form).json()["results"][0]
    shares = {score["label"]: score["probability"] for score in heard["scores"]}
    expected = export.model.classify({"audio": [SOUND]}, plain)[0].tolist()
    assert [shares[label] for label in plain] == pytest.approx(expected, abs=1e-4)
    by_label = {score["label"]: score["probability"] for score in answer["scores"]}
    expected = export.model.classify([PICTURE], plain)[0].tolist()
    assert [by_label[label] for label in plain] == pytest.approx(expected, abs=1e-4)
    assert caption == export.model.caption([PICTURE])[0]
    np.testing.assert_allclose(
        embedded["results"][0]["embedding"], export.model.encode_text("a red circle")[0].numpy(), atol=1e-4
    )
    assert set(facts["tasks"]) == set(NAMES)
    assert facts["backend"] == "onnx"


def test_no_process_of_it_has_torch(served_export: Served) -> None:
    children = Path(f"/proc/{served_export.process.pid}/task/{served_export.process.pid}/children")
    if not children.is_file():
        pytest.skip("this system does not list the children of a process")
    engines = children.read_text().split()
    assert engines
    for process in (str(served_export.process.pid), *engines):
        assert "libtorch" not in Path(f"/proc/{process}/maps").read_text()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["{export}", "--backend", "torch"], "--backend torch: {export} is an export; leave --backend out"),
        (["{run}", "--backend", "onnx"], "--backend onnx: {run} is a model; uniperceiver export it first"),
        (["{export}", "--step", "3"], "{export}: an export has no steps and no code; leave --step and --trust out"),
    ],
)
def test_what_does_not_go_together_is_a_line(
    words: list[str], line: str, export: ExportedModel, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"export": str(export.folder), "run": str(trained)}
    assert main(["serve", *(word.format(**places) for word in words)]) == 2
    assert capsys.readouterr().err == f"uniperceiver: {line.format(**places)}\n"
