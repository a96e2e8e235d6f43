"""What nobody should send is refused with a sentence; the server goes on."""

import base64
import json
import re
import struct
import zlib
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from tests.server import raw
from tests.server.conftest import encoded
from tests.server.started import Served

PICTURE = encoded(np.full((16, 16, 3), 90, dtype=np.uint8))
JPEG = encoded(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8), "JPEG")
CODED = base64.b64encode(PICTURE).decode()
LABELS = ["a", "b"]


@pytest.fixture(autouse=True)
def _goes_on(served: Served) -> Iterator[None]:
    yield
    with served.client() as client:
        figures = client.get("/metrics").text
        assert "engine_restarts_total 0" in figures
        assert 'status="500"' not in figures
    assert not [line for line in served.lines if "Traceback" in line or "rror:" in line]


def giant(side: int, rows: int = 1) -> bytes:
    """A PNG whose header says side x side, with so few rows in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(rows * (1 + 3 * side)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


FILES = {
    "empty": b"",
    "text": b"hello",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "tiff": b"II*\x00\x08\x00\x00\x00" + bytes(40),
    "fits": b"SIMPLE  =                    T" + bytes(60),
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "pdf": b"%PDF-1.7\n",
    "playlist": b"#EXTM3U\nhttp://example.org/a.ts\n",
    "gif without frames": b"GIF89a\x01\x00\x01\x00\x00\x00\x00;",
    "png of its first bytes": PICTURE[:20],
    "half a jpeg": JPEG[: len(JPEG) // 2],
    "900 megapixels": giant(30_000),
    "196 megapixels": giant(14_000),
    "clip without frames": b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom",
    "avi of nothing": b"RIFF\x10\x00\x00\x00AVI LIST",
    "webm of nothing": b"\x1a\x45\xdf\xa3\x84\x42\x86\x81\x01",
    "heic": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_none(client: httpx.Client, name: str) -> None:
    answer = client.post("/v1/classify", files={"file": ("a.png", FILES[name])}, data={"labels": LABELS})
    assert answer.status_code == 422, answer.text
    message = answer.json()["error"]["message"]
    assert 10 < len(message) < 300
    assert "image 0" not in message
    assert "data.megapixels" not in message, "no key of a recipe helps here"


BODIES = {
    "empty": (b"", 400),
    "no json": (b"{", 400),
    "an array": (b"[]", 422),
    "null": (b"null", 422),
    "not utf-8": (b'{"inputs": "\xff"}', 400),
    "deep": (b'{"inputs":' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400),
    "nan": (json.dumps({"inputs": [{"text": "a"}], "labels": [float("nan")]}).encode(), 422),
    "huge number": (b'{"inputs": [{"text": "a"}], "labels": ["a", 1' + b"0" * 400 + b"]}", 422),
    "no inputs": (json.dumps({"inputs": [], "labels": LABELS}).encode(), 422),
    "no labels": (json.dumps({"inputs": [{"image": CODED}]}).encode(), 422),
    "one label": (json.dumps({"inputs": [{"image": CODED}], "labels": ["a"]}).encode(), 422),
    "no texts of a label": (json.dumps({"inputs": [{"image": CODED}], "labels": ["a", []]}).encode(), 422),
    "equal labels": (json.dumps({"inputs": [{"image": CODED}], "labels": ["a", "a"]}).encode(), 422),
    "blank label": (json.dumps({"inputs": [{"image": CODED}], "labels": ["a", "  "]}).encode(), 422),
    "many labels": (json.dumps({"inputs": [{"image": CODED}], "labels": [f"{n}" for n in range(1001)]}).encode(), 422),
    "long labels": (json.dumps({"inputs": [{"image": CODED}], "labels": ["a" * 40_000, "b" * 40_000]}).encode(), 422),
    "long label": (json.dumps({"inputs": [{"image": CODED}], "labels": ["a " * 5_000, "b"]}).encode(), 422),
    "surrogate": (b'{"inputs": [{"image": "' + CODED.encode() + b'"}], "labels": ["\\ud800", "b"]}', 400),
    "unknown task": (json.dumps({"inputs": [{"image": CODED}], "task": "colour"}).encode(), 422),
    "task of texts": (json.dumps({"inputs": [{"image": CODED}], "task": "relations"}).encode(), 422),
    "unknown field": (json.dumps({"inputs": [{"image": CODED}], "labels": LABELS, "path": "/etc"}).encode(), 422),
    "two things": (json.dumps({"inputs": [{"image": CODED, "text": "a"}], "labels": LABELS}).encode(), 422),
    "spaces": (json.dumps({"inputs": [{"image": f" {CODED}"}], "labels": LABELS}).encode(), 422),
    "padding": (json.dumps({"inputs": [{"image": "QUI"}], "labels": LABELS}).encode(), 422),
    "a picture as a clip": (json.dumps({"inputs": [{"video": CODED}], "labels": LABELS}).encode(), 422),
    "33 pictures": (json.dumps({"inputs": [{"image": CODED}] * 33, "labels": LABELS}).encode(), 422),
    "zeros": (json.dumps({"inputs": [{"image": "A" * 4_000_000}], "labels": LABELS}).encode(), 422),
    "template": (json.dumps({"inputs": [{"image": CODED}], "labels": LABELS, "template": "x"}).encode(), 422),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_wrong(client: httpx.Client, name: str) -> None:
    body, status = BODIES[name]
    answer = client.post("/v1/classify", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert set(answer.json()["error"]) == {"type", "message", "param"}
    assert len(answer.content) < 2_000


@pytest.mark.parametrize(
    "label",
    ["<script>alert(1)</script>", "\u202eabc", "<|endoftext|>", "\x00", "é" * 20, "{label}", "../../etc/passwd"],
)
def test_a_label_is_text_whatever_it_says(client: httpx.Client, label: str) -> None:
    answer = client.post("/v1/classify", json={"inputs": [{"image": CODED}], "labels": [label, "a blue square"]})
    assert answer.status_code in (200, 422)
    if answer.status_code == 200:
        assert label in {score["label"] for score in answer.json()["results"][0]["scores"]}


@pytest.mark.parametrize("beam", [0, -1, 9, "2", 2.5, True, None, 10**30])
def test_a_beam_that_is_none(client: httpx.Client, beam: object) -> None:
    answer = client.post("/v1/caption", json={"inputs": [{"image": CODED}], "beam": beam})
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == "beam"


URLS = ["http://127.0.0.1:1/a.png", "https://example.org/a.png", "HTTP://a", "file:///etc/passwd", "ftp://a/b",
        "//example.org/a.png", "gopher://a", "data:image/png,abc", "data:text/html;base64", "jar:http://a!/b",
        "/etc/passwd", "../../etc/passwd", "C:\\x", "\\\\host\\share", "s3://bucket/key", "http://[::1]/",
        "http:example.org", "blob:abc", "dict://a:1/", "javascript:alert(1)"]  # fmt: skip


@pytest.mark.parametrize("url", URLS)
def test_nothing_is_fetched_or_opened(client: httpx.Client, url: str) -> None:
    own = client.post("/v1/embed", json={"inputs": [{"image": url}]})
    other = client.post("/v1/embeddings", json={"model": "tiny", "input": [{"image": url}]})
    infer = {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [url]}]}
    for answer in (own, other, client.post("/v2/models/tiny/infer", json=infer)):
        assert answer.status_code in (400, 422)


def test_forms_that_are_wrong(client: httpx.Client) -> None:
    def form(content: bytes, kind: str = "multipart/form-data; boundary=x") -> httpx.Response:
        return client.post("/v1/classify", content=content, headers={"Content-Type": kind})

    part = b'--x\r\nContent-Disposition: form-data; name="labels"\r\n\r\na\r\n'
    file = b'--x\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n' + PICTURE + b"\r\n"
    assert form(b"abc").status_code == 400
    assert form(b"", "multipart/form-data").status_code == 400
    assert form(part, "multipart/form-data; boundary=" + "y" * 300).status_code == 400
    assert form(part + b"--x--\r\n").status_code == 422, "no file"
    assert form(part * 10_000 + b"--x--\r\n").status_code == 422
    assert form(file * 33 + part * 2 + b"--x--\r\n").status_code == 422
    names = [b"../../etc/passwd", b"C:\\x", b"a" * 4_000, b"\xff\xfe", b"a\r\nX-Evil: 1", b"", b'"']
    for name in names:
        labels = part + part.replace(b"\r\na\r\n", b"\r\nb\r\n")
        answer = form(file % name + labels + b"--x--\r\n")
        assert answer.status_code in (200, 400, 422), name
        assert "etc/passwd" not in answer.text
        assert "X-Evil" not in answer.headers
    assert client.post("/v1/classify", content=b"a", headers={"Content-Type": "text/plain"}).status_code == 415
    assert client.post("/v1/classify", content=b"{}", headers={"Content-Type": "text/json"}).status_code == 415
    assert client.post("/v1/classify", data={"labels": LABELS, "task": ["a", "b"], "input": "x"}).status_code == 422


HEAD = b"POST /v1/embed HTTP/1.1\r\nHost: 127.0.0.1\r\n"
REQUESTS = {
    "both lengths": (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    "two lengths": (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", {400}),
    "negative length": (HEAD + b"Content-Length: -5\r\n\r\n", {400}),
    "endless length": (HEAD + b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\n", {400, 413}),
    "long length": (HEAD + b"Content-Length: " + b"9" * 19 + b"\r\n\r\n", {400, 413}),
    "wrong chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", {400}),
    "unknown coding": (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", {400, 501}),
    "long header": (HEAD + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n", {0, 400, 431}),
    "many headers": (HEAD + b"".join(b"X%d: 1\r\n" % n for n in range(10_000)) + b"\r\n", {0, 400, 431}),
    "no http": (b"\x16\x03\x01\x02\x00" + bytes(40) + b"\r\n\r\n", {400}),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", {400}),
    "two hosts": (b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", {400}),
    "path with zero": (b"GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", {404}),
    "upwards": (b"GET /page/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", {404}),
    "upwards, coded": (b"GET /page/%2e%2e%2f%2e%2e%2fetc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", {404}),
    "trace": (b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", {405}),
    "upgrade": (b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", {200}),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_that_is_wrong(served: Served, name: str) -> None:
    data, statuses = REQUESTS[name]
    try:
        answer = raw.exchange(served.address, data)
    except (BrokenPipeError, ConnectionResetError):  # while it was still sent
        answer = b""
    assert raw.status(answer) in statuses | ({0} if len(data) > 60_000 else set()), answer[:300]


def test_an_older_http_and_a_patient_client_are_answered(served: Served) -> None:
    assert b" 200 OK" in raw.exchange(served.address, b"GET /health HTTP/1.0\r\n\r\n")
    body = json.dumps({"inputs": [{"text": "a red circle"}]}).encode()
    headers = {"Content-Type": "application/json", "Expect": "100-continue"}
    answer = raw.exchange(served.address, raw.post("/v1/embed", headers, body))
    assert answer.startswith(b"HTTP/1.1 100 Continue")


def test_bodies_of_noise_and_broken_pictures(client: httpx.Client) -> None:
    """Bits flipped and bytes cut: each is answered, or refused with a sentence."""
    rng = np.random.default_rng(0)
    for number in range(120):
        data = bytearray(PICTURE if number % 2 else JPEG)
        for place in rng.integers(0, len(data), 1 + number % 5):
            data[place] ^= 1 << int(rng.integers(8))
        cut = len(data) if number % 3 else int(rng.integers(len(data)))
        answer = client.post("/v1/embed", files={"file": ("a", bytes(data[:cut]))})
        assert answer.status_code in (200, 422), answer.text
        noise = rng.integers(0, 256, 60, dtype=np.uint8).tobytes()
        kind = ("application/json", "multipart/form-data; boundary=x", "image/png")[number % 3]
        answer = client.post("/v1/embed", content=noise, headers={"Content-Type": kind})
        assert answer.status_code in (400, 422)
        assert re.fullmatch(r"[\w-]{1,64}", answer.headers["X-Request-Id"])
