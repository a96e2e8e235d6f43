"""An exported model that hears answers what the model answers, without torch."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exported import CLIPS, CLOSE, LABELS, TEXTS, ExportedModel, difference, exported, tiny_saved
from tests.sounds import encoded, tone, wave_bytes
from tests.tiny import hearing, tiny_sound, tiny_task
from uniperceiver import UserError
from uniperceiver.serving.export.plan import plan_export

NAMES = ("audio_classification", "audio_captioning", "audio_text_retrieval", "audiovisual_classification")
SOUNDS = [
    tiny_sound(0),
    wave_bytes(tone(0.3, 11_025, 700.0), 11_025),
    encoded(np.stack([tone(0.2, 8000), tone(0.2, 8000, 900.0)], axis=1), 8000),
]
CLIP = encoded(tone(0.4, 48_000), 48_000, "matroska", "flac", clip_frames=4)
HEARD = {"audio": SOUNDS}
ASKED: dict[str, Callable[[Any], Any]] = {
    "encode_audio": lambda model: model.encode_audio(SOUNDS),
    "encode_audio of a task": lambda model: model.encode_audio(SOUNDS, "audio_captioning"),
    "encode_audio of nothing": lambda model: model.encode_audio([]),
    "rank": lambda model: model.rank(HEARD, TEXTS),
    "rank by a task": lambda model: model.rank(SOUNDS, TEXTS[:1], "audio_text_retrieval"),
    "classify": lambda model: model.classify(HEARD, LABELS),
    "classify what is said to be a sound": lambda model: model.classify(SOUNDS[1:], LABELS, modality="audio"),
    "classify a clip and its sound": lambda model: model.classify({"video": [CLIP]}, task=NAMES[3]),
    "classify clips and sounds": lambda model: model.classify({"video": CLIPS, "audio": SOUNDS}, task=NAMES[3]),
    "encode_video by its track": lambda model: model.encode_video(CLIP, NAMES[3]),
    "classify by a task": lambda model: model.classify(SOUNDS, task="audio_classification"),
}


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    saved = tiny_saved(NAMES, **hearing(tiny_task(NAMES[0])))
    return exported(tmp_path_factory.mktemp("export") / "heard", saved)


@pytest.mark.parametrize("question", ASKED)
def test_answers_are_those_of_the_model(heard: ExportedModel, question: str) -> None:
    assert difference(ASKED[question], heard) <= CLOSE


@pytest.mark.parametrize("options", [{"beam": 1}, {"beam": 3, "length_penalty": 1.0}])
def test_captions_are_the_same_texts(heard: ExportedModel, options: dict[str, Any]) -> None:
    captions = heard.model.caption(HEARD, **options)
    assert heard.runner.caption(HEARD, **options) == captions
    assert any(captions)


def test_a_graph_of_sounds_takes_any_number_of_grids(heard: ExportedModel) -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(heard.folder / "onnx" / "audio_model.onnx").graph
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {"input_features": ["batch", 8, 8], "audio_embeds": ["batch", 16]}
    assert heard.runner.preprocess["audio_classification"] == heard.model.saved.tasks["audio_classification"].preprocess


def test_a_bad_sound_is_a_line(heard: ExportedModel, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF0000WAVE")
    with pytest.raises(UserError, match=r"bad.wav: damaged or not a sound .*; give another file$"):
        heard.runner.classify(tmp_path / "bad.wav", LABELS)


def test_sounds_as_candidates_are_not_exported() -> None:
    plan = plan_export(tiny_saved(["video_audio_retrieval"], **hearing(tiny_task(NAMES[0]))))
    asked = plan.tasks["video_audio_retrieval"]
    assert asked.refused == {"text_graph": "it compares with sounds, which is not exported"}
    assert asked.media_graph == "video_model.onnx"


def test_a_file_is_heard_without_torch_and_texts_without_av(heard: ExportedModel, tmp_path: Path) -> None:
    sound = tmp_path / "a.wav"
    sound.write_bytes(SOUNDS[1])  # type: ignore[arg-type]
    code = (
        "import sys\nfrom uniperceiver.runner import Runner\n"
        f"model = Runner({str(heard.folder)!r})\n"
        "model.encode_text('a red circle')\n"
        "assert not {'torch', 'av'} & sys.modules.keys()\n"
        f"print(model.classify({str(sound)!r}, ['low', 'high']).shape)\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("(1, 2)", 0), done.stderr
