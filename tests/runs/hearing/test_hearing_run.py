"""A run that hears, with and without a clip beside: trained, saved, asked, merged."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import uniperceiver
from tests.hearing import KINDS, RATE, SIGHT, SOUND, Tones, hearing_recipe, hearing_tasks, train_hearing
from tests.sounds import encoded, tone, wave_bytes
from uniperceiver import Sound, UserError
from uniperceiver.data.media.sound_view import sound_grid
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.serving.info import model_info
from uniperceiver.serving.predict.predict import Question, predict
from uniperceiver.serving.predict.words import asked_about
from uniperceiver.serving.predictor import UniPerceiver
from uniperceiver.serving.values import encoded as read_encoded

STEP = {"moe.condition": "attribute", "moe.experts": 3}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_hearing(tmp_path_factory.mktemp("hearing") / "run", changes=STEP)


@pytest.fixture(scope="module")
def model(run: Path) -> UniPerceiver:
    return uniperceiver.load(run)


def sounds(count: int = 3) -> list[Sound]:
    return [value for index in range(count) if isinstance(value := Tones().read(index).value("audio"), Sound)]


def test_all_of_its_tasks_are_evaluated_and_shown(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())["tasks"]
    assert {name: splits["val"]["n"] for name, splits in results.items()} == dict.fromkeys(KINDS, 12)
    assert {"i2t_recall@1", "t2i_recall@1", "chance_i2t_recall@1"} <= results["pairs"]["val"].keys()
    assert results["pairs"]["val"]["candidates"] == 12
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "tone/0" in page
    assert "number 0 : low" in page


def test_what_it_heard_is_measured_once_and_saved(run: Path, model: UniPerceiver) -> None:
    """Mean and deviation are those of all training sounds here, as there are fewer than are measured."""
    shape = model.saved.arch.sound
    assert shape is not None
    plain = replace(model.saved.tasks["tones"].preprocess, sound=replace(shape, mean=0.0, deviation=1.0))
    values = np.concatenate([sound_grid(Tones().read(index), plain).ravel() for index in range(12)]).astype(np.float64)
    assert shape.mean == pytest.approx(values.mean(), abs=1e-5)
    assert shape.deviation == pytest.approx(values.std(), abs=1e-5)
    assert {name: task.preprocess.sound for name, task in model.saved.tasks.items()} == dict.fromkeys(KINDS, shape)
    facts = model_info(run)
    assert facts["architecture"]["sound"]["mean"] == shape.mean
    assert (facts["tasks"]["tones"]["seconds"], facts["tasks"]["tones"]["hop in milliseconds"]) == (0.256, 32.0)
    again = prepare_run(hearing_recipe(changes=STEP), run, run, tasks=hearing_tasks(hearing_recipe()), quiet=True)
    assert again.objective.tasks[0].preprocess.sound == shape  # a run that goes on


def test_a_model_says_what_of_it_is_new_and_others_say_nothing(run: Path, trained: Path) -> None:
    config = json.loads((run / "model" / "config.json").read_text())
    assert (config["format"], config["architecture"]["tokenizers"]) == (2, ["words", "patches", "sound"])
    assert config["architecture"]["moe"]["kinds"] == ["visual", "text", "audio"]
    deaf = json.loads((trained / "model" / "config.json").read_text())
    assert deaf["format"] == 1
    assert not deaf["architecture"].keys() & {"sound", "tokenizers"}
    views = json.loads((trained / "model" / "preprocess.json").read_text())
    assert not any(view.keys() & {"sound", "seconds", "hop"} for view in views.values())


def test_sounds_are_asked_in_all_forms(model: UniPerceiver, tmp_path: Path) -> None:
    x_L = tone(0.3, RATE)
    as_is = model.classify(Sound(x_L, RATE), task="tones")
    assert as_is.shape == (1, 2)
    (tmp_path / "a.wav").write_bytes(wave_bytes(x_L, RATE))
    (tmp_path / "b.flac").write_bytes(encoded(x_L, RATE))
    with (tmp_path / "a.wav").open("rb") as opened:
        for form in (tmp_path / "a.wav", str(tmp_path / "b.flac"), wave_bytes(x_L, RATE), opened):
            torch.testing.assert_close(model.classify(form, task="tones"), as_is, atol=1e-4, rtol=0)
    stereo_L2 = torch.from_numpy(np.stack([x_L, x_L], axis=1))
    for array in (stereo_L2, stereo_L2.T):
        torch.testing.assert_close(model.classify(Sound(array, RATE), task="tones"), as_is, atol=1e-4, rtol=0)  # type: ignore[arg-type]
    torch.testing.assert_close(
        model.classify(wave_bytes(x_L, RATE), ["low", "high"], modality="audio"),
        model.classify(tmp_path / "a.wav", ["low", "high"]),
    )
    assert model.encode_audio([tmp_path / "a.wav", Sound(x_L, RATE)]).shape == (2, 16)
    assert model.rank([tmp_path / "a.wav"], ["number 1 : low", "number 2 : high"]).shape == (1, 2)
    assert len(model.caption(tmp_path / "a.wav", max_words=4)) == 1
    mixed = model.classify([tmp_path / "a.wav", tmp_path / "b.flac"], ["low", "high"])
    assert mixed.shape == (2, 2)


def test_a_clip_is_heard_by_its_own_track(model: UniPerceiver, tmp_path: Path) -> None:
    x_L = tone(0.5, RATE)
    (tmp_path / "clip.mp4").write_bytes(encoded(x_L, RATE, "mp4", "aac", clip_frames=5))
    both = model.classify(tmp_path / "clip.mp4", task="films")
    torch.testing.assert_close(model.classify({"video": [tmp_path / "clip.mp4"]}, task="films"), both)
    given = {"video": [tmp_path / "clip.mp4"], "audio": [Sound(x_L, RATE)]}
    assert model.classify(given, task="films").shape == (1, 2)
    assert model.classify(tmp_path / "clip.mp4", task="tones").shape == (1, 2)
    similarity = model.rank([tmp_path / "clip.mp4"], [Sound(x_L, RATE), *sounds()], task="pairs")
    assert similarity.shape == (1, 4)
    (tmp_path / "mute.mp4").write_bytes(encoded(x_L, RATE, "mp4", "mpeg4", clip_frames=5, tracks=0))
    with pytest.raises(UserError, match=r"mute\.mp4: no sound track; give another file"):
        model.classify(tmp_path / "mute.mp4", task="films")


def test_what_cannot_be_heard_is_one_line(model: UniPerceiver, trained: Path) -> None:
    rate = r"a sound that is an array has no rate; write Sound\(array, 44100\)"
    for ask in (
        lambda: model.classify(tone(), task="tones"),
        lambda: model.classify(tone(), ["a", "b"]),
        lambda: model.encode_audio([tone()]),
        lambda: model.encode_audio(torch.from_numpy(tone())),
    ):
        with pytest.raises(UserError, match=rate):
            ask()
    with pytest.raises(UserError, match="rate must be a number of samples a second, found None"):
        model.encode_audio(Sound(tone(), None))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"samples and channels .* cannot be told apart"):
        model.encode_audio(Sound(np.zeros((40, 40), np.float32), RATE))
    with pytest.raises(UserError, match=r"this model does not hear; its tasks: colours \(image\)"):
        uniperceiver.load(trained).classify(Sound(tone(), RATE), ["a", "b"])


def test_the_command_line_asks_by_suffix(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wave_bytes(tone(0.3, RATE), RATE))
    for question in (
        Question(kind="classify", task="tones"),
        Question(kind="classify", labels=["low", "high"]),
        Question(kind="rank", texts=["low", "high"]),
        Question(kind="caption"),
        Question(kind="embed"),
    ):
        (answer,) = predict(uniperceiver.load(run), question, [str(tmp_path)])
        assert answer["file"].endswith("a.wav")
        assert "error" not in answer


def test_sound_tracks_of_clips_are_asked_and_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    words = asked_about([str(_clips(tmp_path))], "audio", as_text=False, keep_going=False)
    assert [Path(name).suffix for name in words.names] == [".mp4"]
    os.mkfifo(tmp_path / "pipe.wav")
    assert read_encoded(tmp_path / "pipe.wav", "pipe.wav") == b""


def _clips(folder: Path) -> Path:
    (folder / "clips").mkdir()
    (folder / "clips" / "a.mp4").write_bytes(b"")
    return folder / "clips"


def test_answers_are_the_same_in_any_company(model: UniPerceiver) -> None:
    """Batch of one or of many, again and again: one fixed view."""
    first, *others = sounds(8)
    alone_1D = model.encode_audio(first)
    assert all(torch.equal(model.encode_audio(first), alone_1D) for _ in range(100))
    together_ND = model.encode_audio([*others, first])
    torch.testing.assert_close(together_ND[-1:], alone_1D, atol=1e-6, rtol=0)


def test_a_merged_model_answers_alike(model: UniPerceiver) -> None:
    merged, clips = model.merge(), [Tones().read(index).clip for index in range(3)]
    for served in (lambda m: m.classify(sounds(), task="tones"), lambda m: m.rank(sounds(), ["low"], task="texts")):
        torch.testing.assert_close(served(merged), served(model), atol=1e-5, rtol=0)
    both = {"video": clips, "audio": sounds()}
    torch.testing.assert_close(
        merged.classify(both, task="films"), model.classify(both, task="films"), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        merged.rank(clips, sounds(), task="pairs"), model.rank(clips, sounds(), task="pairs"), atol=1e-5, rtol=0
    )
    assert merged.caption(sounds(), max_words=4) == model.caption(sounds(), max_words=4)


def test_clips_are_compared_with_sounds_in_serving_as_in_evaluation(run: Path, model: UniPerceiver) -> None:
    clips = [Tones().read(index).clip for index in range(12)]
    similarity_IC = model.rank(clips, sounds(12), task="pairs")
    hits = (similarity_IC.argmax(dim=1) == torch.arange(12)).float().mean()
    results = json.loads((run / "results.json").read_text())["tasks"]["pairs"]["val"]
    assert results["i2t_recall@1"] == pytest.approx(float(hits))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tasks.tones.seconds": 0.3},
            r"^tasks\.tones\.seconds: 0\.3 are 9\.375 rows of 32 ms, and a patch of model\.sound\.patch has 4; write "
            r"0\.256 or 0\.384$",
        ),
        ({"tasks.tones.seconds": 0.05}, r"^tasks\.tones\.seconds: .*; write 0\.128$"),
        (
            {"tasks.tones.hop": 2, "model.sound.mels": 64},
            r"^model\.sound\.mels: of 64 bands some hold no frequency at tasks\.tones\.hop=2; write \d+ or fewer, or a "
            "longer hop$",
        ),
        ({"model.sound.mels": 20}, r"^model\.sound\.mels: 20 is not a multiple of the 8 bands of model\.sound\.patch"),
        (
            {"model.sound": {"kind": "waveform", "mels": 8}},
            r"^model\.sound\.mels: has no meaning with model\.sound\.kind=waveform; remove the key$",
        ),
        (
            {"model.sound": {"kind": "waveform"}, "tasks.tones.hop": 10},
            r"^tasks\.tones\.hop: has no meaning with model\.sound\.kind=waveform; remove the key$",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    recipe = hearing_recipe({"tones": KINDS["tones"]}, changes)
    with pytest.raises(UserError, match=message):
        prepare_run(recipe, tmp_path, tmp_path / "run", tasks=hearing_tasks(recipe), quiet=True)


def test_a_waveform_is_heard_too(tmp_path: Path) -> None:
    changes = {"model.sound": {"kind": "waveform", "rate": RATE, "patch": [2, 64]}}
    run = train_hearing(tmp_path / "run", {"tones": KINDS["tones"]}, changes)
    model = uniperceiver.load(run)
    assert model.classify(sounds(), task="tones").shape == (3, 2)
    assert model.model.tokenizer.get_submodule("sound.project").in_features == 128
    assert (SOUND["rate"], SIGHT["seconds"]) == (RATE, 0.256)
