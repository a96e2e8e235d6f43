"""`data check` and `data prepare` of recipes that hear: what is told of sounds, and that none is lost."""

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.made_data import items, sound, write_files
from tests.sounds import click, encoded, riff, tone, wave_bytes
from uniperceiver.cli import main
from uniperceiver.cli.data_lines import check_lines
from uniperceiver.config import parse_recipe, read_recipe
from uniperceiver.data.media.sounds import decode_sound, hear_sound, stored_sound
from uniperceiver.data.prepare.check import check_data
from uniperceiver.data.prepare.recode import small_clip, small_sound
from uniperceiver.data.tasks import open_tasks
from uniperceiver.errors import BrokenSample
from uniperceiver.records.sounds import Sound
from uniperceiver.serving.locate import model_folder


def whole(seconds: float) -> tuple[float, float]:
    """The window that takes all."""
    return 0.0, seconds


def checked(folder: Path, tasks: dict[str, Any]) -> list[str]:
    """What `data check` prints."""
    recipe = parse_recipe({"tasks": tasks}, {}, "recipe")
    return list(check_lines(check_data(recipe, folder, 0, find_model=model_folder, quiet=True)))


def test_a_check_tells_what_there_is_to_hear(tmp_path: Path) -> None:
    (tmp_path / "hum").mkdir()
    files = {
        "a.wav": wave_bytes(tone(0.4)), "b.wav": wave_bytes(np.zeros((8000, 2), np.float32), 8000),
        "c.flac": encoded(tone(2.0, 44_100), 44_100), "cut.wav": wave_bytes(tone(1.0))[:-9],
        "nan.wav": riff(np.full(100, np.nan, "<f4").tobytes(), form=3, bits=32),
        "half.mp3": encoded(tone(2.0), kind="mp3", codec="libmp3lame")[:3000],
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / "hum" / name).write_bytes(data)
    source = {"format": "folder", "path": "."}
    lines = checked(tmp_path, {"hums": {"kind": "audio_classification", "train": source, "seconds": 1.024}})
    assert lines[:4] == [
        "hums/train (folder): 6 samples, 3 broken",
        "  hums/train: 1 of 3 sounds are silent",
        "  hums/train: 2 of 3 sounds are shorter than seconds 1.024, and lie in silence",
        "  sounds: seconds 0.4 to 2.0, median 1.0; rate 8000 to 44100, median 16000; channels 1 to 2, median 1",
    ]
    broken = [line.strip() for line in lines if "broken: " in line]
    assert len(broken) == 3
    assert broken[0] == "broken: hum/cut.wav: the sound is truncated"
    assert broken[1].startswith("broken: hum/half.mp3: the sound is truncated: ")
    assert broken[2] == "broken: hum/nan.wav: a sample is not a number, or infinite"


def test_a_check_hears_the_tracks_of_clips(tmp_path: Path) -> None:
    (tmp_path / "hum").mkdir()
    for name, tracks in (("a.mp4", 1), ("b.mp4", 0)):
        data = encoded(tone(1.0), kind="mp4", codec="aac", clip_frames=10, tracks=tracks)
        (tmp_path / "hum" / name).write_bytes(data)
    source = {"format": "folder", "path": "."}
    lines = checked(
        tmp_path,
        {
            "seen": {"kind": "video_classification", "train": source},
            "both": {"kind": "video_audio_retrieval", "train": source, "seconds": 0.512},
        },
    )
    assert "seen/train, both/train (folder): 2 samples, 1 broken" in lines
    assert "  broken: hum/b.mp4: no sound track (for both/train)" in lines
    assert any(line.startswith("  clips: width 48; height 32; frames 10") for line in lines)


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_a_clip_that_is_shrunk_keeps_its_sound_and_its_time(codec: str) -> None:
    kind = "mp4" if codec == "aac" else "mov"
    data = encoded(click(0.75, 2.0, 48_000), 48_000, kind, codec, clip_frames=20)
    suffix, small = small_clip(data, 16, "x", rate=16_000)
    assert suffix == "mp4"
    assert stored_sound(small, "x").rate == 16_000
    before_L, after_L = (decode_sound(clip, "x", 16_000, whole) for clip in (data, small))
    assert len(before_L) == len(after_L)
    np.testing.assert_allclose(after_L, before_L.clip(-1, 1), atol=1e-4)
    with pytest.raises(BrokenSample, match="no sound track"):
        hear_sound(small_clip(data, 16, "x")[1], "x")
    silent = encoded(tone(), kind="mp4", codec="aac", clip_frames=4, tracks=0)
    assert small_clip(silent, 16, "x", rate=16_000) == small_clip(silent, 16, "x")


def test_sounds_become_flac_or_stay() -> None:
    x_L = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000).astype(np.float32)
    stereo = wave_bytes(np.stack([x_L, x_L], axis=1), 32_000)
    kind, data = small_sound(stereo, 16_000, "x")
    assert kind == "flac"
    assert (hear_sound(data, "x").rate, hear_sound(data, "x").channels) == (16_000, 1)
    before_L = decode_sound(stereo, "x", 16_000, whole)
    np.testing.assert_allclose(decode_sound(data, "x", 16_000, whole), before_L, atol=1e-4)
    mp3 = encoded(tone(1.0), kind="mp3", codec="libmp3lame")
    assert small_sound(mp3, 16_000, "x") == ("mp3", mp3)
    assert small_sound(mp3, 8000, "x")[0] == "flac"
    assert small_sound(Sound(x_L, 16_000), 16_000, "x")[0] == "flac"
    loud = riff((3 * x_L).tobytes(), form=3, bits=32)
    kind, data = small_sound(loud, 8000, "x")
    assert kind == "wav"
    np.testing.assert_allclose(decode_sound(data, "x", 8000, whole), decode_sound(loud, "x", 8000, whole), atol=1e-6)
    with pytest.raises(BrokenSample, match="truncated"):
        small_sound(wave_bytes(x_L)[:-7], 16_000, "x")


def test_what_a_run_hears_of_prepared_data_is_what_it_heard_before(tmp_path: Path) -> None:
    """Clips with a track, clips beside a sound of their own, sounds alone; what one task lacks another has."""
    made = items(sounds=True)
    write_files(tmp_path / "sounds", made)
    shard = tmp_path / "both.tar"
    tracked = encoded(click(0.7, 2.0), kind="mp4", codec="aac", clip_frames=20)
    deaf = encoded(tone(), kind="mp4", codec="aac", clip_frames=20, tracks=0)
    with tarfile.open(shard, "w") as tar:
        members = {
            "0.mp4": tracked,
            "0.cls": b"0",
            "1.mp4": deaf,
            "1.flac": sound(1),
            "1.cls": b"1",
            "2.flac": sound(2),
        }
        for name, data in {**members, "2.cls": b"1"}.items():
            path = tmp_path / name
            path.write_bytes(data)
            tar.add(path, name)
    both = {"format": "webdataset", "path": "both.tar", "classes": ["a", "b"]}
    tasks = {
        "hums": {"kind": "audio_classification", "train": {"format": "folder", "path": "sounds"}, "seconds": 0.512},
        "heard": {"kind": "audio_classification", "train": both, "seconds": 1.024},
        "seen": {"kind": "video_classification", "train": both, "size": 16, "frames": 2},
        "av": {"kind": "audiovisual_classification", "train": both, "size": 16, "frames": 2, "seconds": 1.024},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps({"seed": 0, "steps": 1, "tasks": tasks}))
    assert (
        main(["data", "prepare", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out"), "--workers", "0"]) == 0
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == ["heard-train", "hums-train"]
    before = open_tasks(read_recipe(tmp_path / "recipe.yaml"), tmp_path)
    after = open_tasks(read_recipe(tmp_path / "out" / "recipe.yaml"), tmp_path / "out")
    for old, new in zip(before, after, strict=True):
        assert len(old.sources["train"]) == len(new.sources["train"])
        for index in range(len(old.sources["train"])):
            first, second = (data.sources["train"].read(index) for data in (old, new))
            assert first.label == second.label
            assert (first.clip is None) == (second.clip is None)
            files = [sample.holder("audio") for sample in (first, second)]
            first_L, second_L = (decode_sound(file, "x", 16_000, whole) for file in files if isinstance(file, bytes))
            np.testing.assert_allclose(second_L, first_L.clip(-1, 1), atol=1e-4)
    assert not json.loads((tmp_path / "out" / "broken.json").read_text())


def test_tracks_that_no_task_hears_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hum").mkdir()
    for number, tracks in enumerate((1, 0, 1)):
        data = encoded(tone(1.0), kind="mp4", codec="aac", clip_frames=4, tracks=tracks)
        (tmp_path / "hum" / f"{number}.mp4").write_bytes(data)
    task = {"kind": "video_classification", "train": {"format": "folder", "path": "."}, "size": 16}
    (tmp_path / "recipe.yaml").write_text(json.dumps({"seed": 0, "steps": 1, "tasks": {"seen": task}}))
    assert (
        main(["data", "prepare", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out"), "--workers", "0"]) == 0
    )
    assert "2 clips lose their sound track, as no task hears them" in capsys.readouterr().out
