"""The server's own protocol answers as the library does, from JSON, forms and bare bytes."""

import base64
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import features

from tests.clips import clip_bytes
from tests.server.conftest import encoded
from tests.server.started import Served
from uniperceiver import UniPerceiver

LABELS = ["a red circle", "a blue square", "a green cross"]


def as_json(pictures: list[bytes]) -> list[dict[str, str]]:
    return [{"image": base64.b64encode(data).decode()} for data in pictures]


def as_files(pictures: list[bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", (f"{place}.png", data)) for place, data in enumerate(pictures)]


def by_label(result: dict) -> list[float]:
    cosine_K = np.array([score["cosine"] for score in result["scores"]])
    likely_K = np.exp((cosine_K - cosine_K.max()) / result["temperature"])
    probability = {score["label"]: score["probability"] for score in result["scores"]}
    assert list(probability.values()) == pytest.approx((likely_K / likely_K.sum()).tolist(), abs=1e-4)
    return [probability[label] for label in LABELS]


def test_it_classifies_as_the_library_does(client: httpx.Client, model: UniPerceiver, pictures: list[bytes]) -> None:
    expected = model.classify(pictures, LABELS)
    asked = {"inputs": as_json(pictures), "labels": LABELS}
    answers = [
        client.post("/v1/classify", json=asked),
        client.post("/v1/classify", files=as_files(pictures), data={"labels": LABELS}),
        client.post("/v1/classify", files=as_files(pictures), data={"labels": "\n".join(LABELS)}),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        results = answer.json()["results"]
        assert np.abs(np.array([by_label(result) for result in results]) - expected.numpy()).max() < 1e-6
        assert [result["answer"] for result in results] == [LABELS[row.argmax()] for row in expected]


def test_bytes_of_a_picture_alone_are_a_question(
    client: httpx.Client, model: UniPerceiver, pictures: list[bytes]
) -> None:
    answer = client.post(
        "/v1/classify", params={"labels": LABELS}, content=pictures[0], headers={"Content-Type": "image/png"}
    )
    assert by_label(answer.json()["results"][0]) == pytest.approx(model.classify(pictures[0], LABELS)[0].tolist())


def test_the_labels_of_a_task_are_its_own(client: httpx.Client, model: UniPerceiver, pictures: list[bytes]) -> None:
    answer = client.post("/v1/classify", files=as_files(pictures[:2]), data={"task": "colours"}).json()
    expected = model.classify(pictures[:2], task="colours")
    names = model.labels("colours")
    for result, row in zip(answer["results"], expected, strict=True):
        assert result["answer"] == names[row.argmax()]
        assert result["scores"][0]["probability"] == pytest.approx(float(row.max()))


def test_captions_are_the_librarys(client: httpx.Client, model: UniPerceiver, pictures: list[bytes]) -> None:
    for beam in (1, 2):
        answer = client.post("/v1/caption", json={"inputs": as_json(pictures[:3]), "beam": beam, "words": 5})
        assert [result["caption"] for result in answer.json()["results"]] == model.caption(
            pictures[:3], beam, max_words=5
        )


def test_vectors_and_cosines_are_the_librarys(client: httpx.Client, model: UniPerceiver, pictures: list[bytes]) -> None:
    asked = [{"text": "a red circle"}, *as_json(pictures[:2]), {"text": "two squares"}]
    vectors = [result["embedding"] for result in client.post("/v1/embed", json={"inputs": asked}).json()["results"]]
    expected = [*model.encode_text(["a red circle", "two squares"]), *model.encode_image(pictures[:2])]
    for vector, place in zip(vectors, (0, 2, 3, 1), strict=True):
        assert np.abs(np.array(vector) - expected[place].numpy()).max() < 1e-6
    coded = client.post("/v1/embed", json={"inputs": asked[:1], "format": "base64"}).json()["results"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(coded), "<f4").tolist() == pytest.approx(vectors[0])
    texts = ["a red circle", "two squares"]
    answer = client.post("/v1/rank", files=as_files(pictures[:1]), data={"texts": texts}).json()
    cosines = {score["text"]: score["cosine"] for score in answer["results"][0]["scores"]}
    assert [cosines[text] for text in texts] == pytest.approx(model.rank(pictures[0], texts)[0].tolist(), abs=1e-6)


def test_clips_and_texts_are_inputs(client: httpx.Client, model: UniPerceiver) -> None:
    clip = clip_bytes(6)
    answer = client.post("/v1/classify", files={"file": ("c.mp4", clip)}, data={"task": "motions"}).json()
    expected = model.classify({"video": [clip]}, task="motions")[0]
    assert answer["results"][0]["scores"][0]["probability"] == pytest.approx(float(expected.max()), abs=1e-6)
    text = "the red circle is left of the blue square ."
    said = client.post("/v1/classify", data={"input": text, "task": "relations"}).json()["results"][0]
    likely = model.classify([text], task="relations", modality="text")[0]
    assert said["answer"] == model.labels("relations")[likely.argmax()]
    assert said["scores"][0]["probability"] == pytest.approx(float(likely.max()), abs=1e-6)
    both = client.post(
        "/v1/embed", json={"inputs": [{"video": base64.b64encode(clip).decode()}, {"text": "a red circle"}]}
    ).json()
    assert np.abs(np.array(both["results"][0]["embedding"]) - model.encode_video([clip])[0].numpy()).max() < 1e-6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF"])
def test_pictures_are_those_that_the_library_reads(client: httpx.Client, model: UniPerceiver, kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif", reason="pillow-heif is not installed").register_heif_opener()
    elif kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = encoded(np.random.default_rng(3).integers(0, 256, (40, 48, 3), dtype=np.uint8), kind)
    answer = client.post("/v1/embed", files={"file": ("a", data)})
    assert answer.status_code == 200, answer.text
    assert np.abs(answer.json()["results"][0]["embedding"] - model.encode_image([data]).numpy()).max() < 1e-6


def test_what_cannot_be_used_fails_alone(client: httpx.Client, model: UniPerceiver, pictures: list[bytes]) -> None:
    broken = pictures[1][:60]
    asked = [pictures[0], broken, pictures[2]]
    answer = client.post("/v1/classify", files=as_files(asked), data={"labels": LABELS})
    assert answer.status_code == 200
    first, second, third = answer.json()["results"]
    expected = model.classify([pictures[0], pictures[2]], LABELS)
    for result, row in zip((first, third), expected, strict=True):
        assert by_label(result) == pytest.approx(row.tolist(), abs=1e-6)
    assert second["error"]["param"] == "inputs[1]"
    assert "damaged image" in second["error"]["message"]
    alone = client.post("/v1/classify", files=as_files([broken]), data={"labels": LABELS})
    assert alone.status_code == 422
    assert "image 0" not in alone.text


def test_a_text_that_was_cut_is_said(client: httpx.Client) -> None:
    answer = client.post("/v1/embed", json={"inputs": [{"text": "a red circle " * 100}]})
    assert answer.status_code in (200, 422)
    assert "tokens" in answer.text


def test_what_the_model_cannot_do_says_what_it_lacks(client: httpx.Client, pictures: list[bytes]) -> None:
    for path, what in (("/v1/experts", "experts"), ("/v1/detect", "boxes"), ("/v1/segment", "masks")):
        answer = client.post(path, files=as_files(pictures[:1]))
        assert answer.status_code == 409
        assert what in answer.json()["error"]["message"]


def test_the_front_has_no_torch(served: Served, client: httpx.Client, pictures: list[bytes]) -> None:
    assert client.post("/v1/embed", files=as_files(pictures[:1])).status_code == 200
    assert "torch" not in Path(f"/proc/{served.process.pid}/maps").read_text()
    figures = client.get("/metrics").text
    (line,) = [
        line for line in figures.splitlines() if line.startswith('uniperceiver_process_resident_bytes{who="front"')
    ]
    assert int(line.split()[-1]) < 80e6


def test_the_model_is_described(client: httpx.Client, model: UniPerceiver) -> None:
    facts = client.get("/v1/model").json()
    assert set(facts["tasks"]) == set(model.tasks)
    assert facts["tasks"]["colours"]["labels"] == model.labels("colours")
    assert facts["width"] == 16
    assert facts["limits"]["queue"] == 64
