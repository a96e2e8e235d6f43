"""Protocols of others: OpenAI's with its own client, and the Open Inference Protocol."""

import base64

import httpx
import numpy as np
import openai
import pytest

from tests.server.started import Served
from uniperceiver import UniPerceiver

TEXTS = ["a red circle", "two blue squares"]


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_the_client_of_openai_gets_the_librarys_vectors(
    served: Served, model: UniPerceiver, pictures: list[bytes]
) -> None:
    with openai.OpenAI(api_key="none", base_url=f"{served.url}/v1", http_client=served.client()) as client:
        (entry,) = client.models.list().data
        assert entry.id == "tiny"
        for encoding in ("float", "base64"):
            answer = client.embeddings.create(model="tiny", input=TEXTS, encoding_format=encoding)  # type: ignore[arg-type]
            vectors = [row.embedding for row in answer.data]
            if encoding == "base64":
                vectors = [np.frombuffer(base64.b64decode(row), "<f4") for row in vectors]  # type: ignore[arg-type]
            assert np.abs(np.array(vectors) - model.encode_text(TEXTS).numpy()).max() < 1e-6
            assert answer.usage.prompt_tokens == sum(len(model.tokenizer.encode(text)) for text in TEXTS)
        default = client.embeddings.create(model="tiny", input=TEXTS[0])  # asks for base64, and decodes it
        assert np.abs(np.array(default.data[0].embedding) - model.encode_text(TEXTS[0])[0].numpy()).max() < 1e-6
        with pytest.raises(openai.NotFoundError, match="tiny"):
            client.embeddings.create(model="other", input="a")


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_pictures_are_embedded_as_jina_and_vllm_ask_for_it(
    client: httpx.Client, model: UniPerceiver, pictures: list[bytes], prefix: str
) -> None:
    expected = model.encode_image(pictures[0])[0].numpy()
    url = prefix + coded(pictures[0])
    asked = [{"input": [{"image": url}]}]
    if prefix:
        part = {"type": "image_url", "image_url": {"url": url}}
        asked.append({"messages": [{"role": "user", "content": [part]}]})
    for fields in asked:
        answer = client.post("/v1/embeddings", json={"model": "tiny", **fields})
        assert answer.status_code == 200, answer.text
        assert np.abs(np.array(answer.json()["data"][0]["embedding"]) - expected).max() < 1e-6


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"input": []}, 422, "0 inputs"),
        ({"input": [1, 2, 3]}, 422, "string"),
        ({}, 422, "input or messages"),
        ({"input": "a", "messages": []}, 422, "input or messages"),
        ({"messages": []}, 422, "0 texts"),
        ({"input": "a", "dimensions": 3}, 422, "16 numbers"),
        ({"input": ["a"] * 33}, 422, "33 inputs"),
        ({"input": "a", "encoding_format": "int8"}, 422, "base64"),
        ({"input": [{"image": "http://example.org/a.png"}]}, 400, "fetches nothing"),
        ({"input": [{"text": "a", "image": "b"}]}, 422, "either text or image"),
        ({"input": ["a " * 3000]}, 422, "tokens"),
    ],
)
def test_what_is_wrong_is_said_as_openai_says_it(
    client: httpx.Client, fields: dict[str, object], status: int, says: str
) -> None:
    answer = client.post("/v1/embeddings", json={"model": "tiny", **fields})
    assert (answer.status_code, set(answer.json()["error"])) == (status, {"type", "message", "param"})
    assert says in answer.text


def infer(client: httpx.Client, name: str, data: list[str], **parameters: object) -> httpx.Response:
    tensor = {"name": name, "shape": [len(data)], "datatype": "BYTES", "data": data}
    return client.post("/v2/models/tiny/infer", json={"id": "7", "inputs": [tensor], "parameters": parameters})


def test_the_open_inference_protocol_answers_as_the_library_does(
    client: httpx.Client, model: UniPerceiver, pictures: list[bytes]
) -> None:
    files = [coded(data) for data in pictures[:3]]
    cases = [
        ("image", files, {}, "embedding", model.encode_image(pictures[:3])),
        ("text", TEXTS, {"question": "embed"}, "embedding", model.encode_text(TEXTS)),
        ("image", files, {"question": "classify", "labels": TEXTS}, "probability", model.classify(pictures[:3], TEXTS)),
        ("image", files, {"question": "rank", "texts": TEXTS}, "cosine", model.rank(pictures[:3], TEXTS)),
    ]
    for name, data, parameters, output, expected in cases:
        answer = infer(client, name, data, **parameters).json()
        tensor, *more = answer["outputs"]
        assert [other["name"] for other in more] == (["cosine"] if output == "probability" else [])
        assert (answer["id"], answer["model_name"], tensor["name"], tensor["datatype"]) == ("7", "tiny", output, "FP32")
        assert tensor["shape"] == list(expected.shape)
        assert np.abs(np.array(tensor["data"]) - expected.numpy().ravel()).max() < 1e-6
    (tensor,) = infer(client, "image", files, question="caption", beam=1).json()["outputs"]
    assert tensor["data"] == model.caption(pictures[:3], 1)


def test_the_open_inference_protocol_describes_and_refuses(client: httpx.Client, pictures: list[bytes]) -> None:
    assert client.get("/v2").json()["name"] == "uniperceiver"
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/tiny/ready", "/v2/models/tiny"):
        assert client.get(path).status_code == 200
    assert client.get("/v2/models/other").status_code == 404
    refused = [
        infer(client, "image", [coded(pictures[0])], question="sing"),
        infer(client, "video", [coded(pictures[0])]),
        infer(client, "image", ["!"]),
        infer(client, "image", ["file:///etc/passwd"]),
        infer(client, "image", [coded(pictures[0])], question="classify"),
        infer(client, "image", [coded(pictures[0])], beam="2", question="caption"),
    ]
    for answer in refused:
        assert answer.status_code in (400, 422)
        assert set(answer.json()) == {"error"}
