"""Sounds over HTTP are answered as the library answers, in every form, and bad ones are a line."""

import base64
import math
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from tests.hearing import KINDS, train_hearing
from tests.server.started import Served, started
from tests.sounds import encoded, riff, tone, wave_bytes
from uniperceiver import UniPerceiver, load
from uniperceiver.server.http.items import media_item
from uniperceiver.server.http.refusals import Refusal

LABELS = ["low", "high"]
SOUNDS = [wave_bytes(tone(0.3, 8000, 300.0), 8000), encoded(tone(0.2, 8000, 900.0), 8000)]
FILES = [("file", ("a", data)) for data in SOUNDS]
CLIP = encoded(tone(0.4, 48_000), 48_000, "matroska", "flac", clip_frames=4)


@pytest.fixture(scope="module")
def hearing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    kinds = {name: KINDS[name] for name in ("tones", "told", "texts", "films")}
    with started(
        train_hearing(tmp_path_factory.mktemp("hearing") / "run", kinds), "--limit", "sound_seconds=5"
    ) as served:
        yield served


@pytest.fixture(scope="module")
def ears(hearing: Served) -> UniPerceiver:
    return load(hearing.run)


@pytest.fixture
def asked(hearing: Served) -> Iterator[httpx.Client]:
    with hearing.client() as client:
        yield client


def test_sounds_are_answered_as_the_library_does(asked: httpx.Client, ears: UniPerceiver) -> None:
    expected = ears.classify({"audio": SOUNDS}, LABELS).numpy()
    bare = asked.post(
        "/v1/classify", params={"labels": LABELS}, content=SOUNDS[0], headers={"Content-Type": "audio/wav"}
    )
    inputs = [{"audio": base64.b64encode(data).decode()} for data in SOUNDS]
    for answer in (
        asked.post("/v1/classify", files=FILES, data={"labels": LABELS}),
        asked.post("/v1/classify", json={"inputs": inputs, "labels": LABELS}),
        bare,
    ):
        assert answer.status_code == 200, answer.text
        scores = [{row["label"]: row["probability"] for row in result["scores"]} for result in answer.json()["results"]]
        got = np.array([[row[label] for label in LABELS] for row in scores])
        assert np.abs(got - expected[: len(got)]).max() < 1e-6
    captions = asked.post("/v1/caption", files=FILES).json()["results"]
    assert [result["caption"] for result in captions] == ears.caption({"audio": SOUNDS})
    vectors = asked.post("/v1/embed", files=FILES).json()["results"]
    assert np.allclose([result["embedding"] for result in vectors], ears.encode_audio(SOUNDS).numpy(), atol=1e-5)
    ranked = asked.post("/v1/rank", files=FILES[:1], data={"texts": "number 3"}).json()["results"][0]["scores"]
    assert ranked[0]["cosine"] == pytest.approx(ears.rank({"audio": SOUNDS[:1]}, ["number 3"]).item(), abs=1e-5)
    tensor = {"name": "audio", "shape": [1], "datatype": "BYTES", "data": [inputs[0]["audio"]]}
    name = asked.get("/v1/model").json()["name"]
    (output,) = asked.post(f"/v2/models/{name}/infer", json={"inputs": [tensor]}).json()["outputs"]
    assert output["data"] == pytest.approx(vectors[0]["embedding"], abs=1e-5)


def test_a_clip_is_heard_where_a_sound_is_asked_for(asked: httpx.Client, ears: UniPerceiver) -> None:
    expected = ears.classify({"audio": [CLIP]}, task="tones")[0, 0].item()
    labelled = ears.classify({"audio": [CLIP]}, LABELS)[0, 0].item()
    both = ears.classify({"video": [CLIP]}, task="films")[0, 0].item()
    as_sound = {"inputs": [{"audio": base64.b64encode(CLIP).decode()}], "task": "tones"}
    kind = {"Content-Type": "audio/webm"}
    answers = [
        (expected, asked.post("/v1/classify", files={"file": CLIP}, data={"task": "tones"})),
        (expected, asked.post("/v1/classify", json=as_sound)),
        (labelled, asked.post("/v1/classify", params={"labels": LABELS}, content=CLIP, headers=kind)),
        (both, asked.post("/v1/classify", files={"file": CLIP}, data={"task": "films"})),
    ]
    for share, answer in answers:
        scores = {row["label"]: row["probability"] for row in answer.json()["results"][0]["scores"]}
        assert scores["low"] == pytest.approx(share, abs=1e-5)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (riff(b""), "no samples"),
        (SOUNDS[1][:200], "damaged or not a sound"),
        (riff(np.full(100, math.nan, "<f4").tobytes(), form=3, bits=32), "is not a number, or infinite"),
        (wave_bytes(tone(6.0, 8000), 8000), "6 seconds, more than 5; send a shorter sound"),
        (b"ID3" + bytes(40), "damaged or not a sound"),
    ],
    ids=["empty", "cut", "not a number", "long", "another file"],
)
def test_a_bad_sound_is_a_line_and_spares_the_others(asked: httpx.Client, data: bytes, says: str) -> None:
    alone = asked.post("/v1/classify", files={"file": data}, data={"labels": LABELS})
    assert alone.status_code == 422
    message = alone.json()["error"]["message"]
    assert says in message
    assert "\n" not in message
    both = asked.post("/v1/classify", files=[*FILES[:1], ("file", ("b", data))], data={"labels": LABELS})
    assert both.status_code == 200
    first, second = both.json()["results"]
    assert first["scores"]
    assert second["error"]["message"] == message


def test_a_picture_is_no_sound(asked: httpx.Client, pictures: list[bytes]) -> None:
    inputs = [{"audio": base64.b64encode(pictures[0]).decode()}]
    answer = asked.post("/v1/embed", json={"inputs": inputs})
    assert answer.status_code == 422
    assert answer.json()["error"]["message"] == "is a picture; send it as image"
    answer = asked.post("/v1/embed", json={"inputs": [{"audio": "AAAA", "text": "b"}]})
    assert "exactly one of image, video, audio and text" in answer.text


def test_a_model_that_does_not_hear_says_so(client: httpx.Client) -> None:
    answer = client.post("/v1/classify", files=FILES, data={"labels": LABELS})
    assert answer.status_code == 422
    assert "this model does not hear" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("kind", "codec", "rate"),
    [
        *[("wav", "pcm_s16le", 8000), ("w64", "pcm_s16le", 8000), ("flac", "flac", 8000)],
        *[("ogg", "libopus", 48_000), ("mp3", "libmp3lame", 16_000), ("ipod", "aac", 16_000), ("adts", "aac", 16_000)],
        ("aiff", "pcm_s16be", 8000),
    ],
)
def test_sounds_are_told_by_their_first_bytes(kind: str, codec: str, rate: int) -> None:
    data = encoded(tone(0.2, rate), rate, kind, codec)
    assert media_item(data, "file").modality == "audio"
    bare = data[data.find(b"\xff\xfb") :] if kind == "mp3" and b"\xff\xfb" in data else data
    assert media_item(bare, "file").modality == "audio"


@pytest.mark.parametrize("data", [b"\xff\xfe<\0", b"\xff\xff\xff", b"<html>", b"FORM0000ILBM", b""])
def test_what_begins_like_no_sound_is_refused(data: bytes) -> None:
    with pytest.raises(Refusal, match="send a JPEG"):
        media_item(data, "file")
