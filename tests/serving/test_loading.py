"""How a model is loaded: its type, its batches, and how it decodes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import uniperceiver
from tests.data.media.test_preprocess import photograph
from uniperceiver.errors import UserError
from uniperceiver.streams import numpy_stream

LABELS = ["red", "blue", "a green thing"]


@pytest.fixture
def folder(model: uniperceiver.UniPerceiver, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def pictures(count: int = 5) -> list[np.ndarray]:
    return list(numpy_stream(0).integers(0, 256, (count, 20, 24, 3), dtype=np.uint8))


def test_answers_in_16_bits_are_float32_and_nearly_the_same(folder: Path) -> None:
    exact, coarse = (uniperceiver.load(folder, dtype=dtype) for dtype in ("float32", torch.bfloat16))
    z_ND, coarse_ND = (model.encode_image(pictures()) for model in (exact, coarse))
    assert coarse_ND.dtype == torch.float32
    assert not coarse_ND.equal(z_ND)
    assert (coarse_ND * z_ND).sum(dim=1).min() > 0.999
    torch.testing.assert_close(
        coarse.classify(pictures(), LABELS), exact.classify(pictures(), LABELS), atol=0.1, rtol=0
    )
    assert {parameter.dtype for parameter in coarse.model.parameters()} == {torch.float32}
    assert len(coarse.caption(pictures())) == 5


def test_auto_is_what_the_device_can(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniperceiver.devices.has_bfloat16", lambda device: False)
    exact = uniperceiver.load(folder).encode_image(pictures())
    assert uniperceiver.load(folder, "auto", dtype="auto").encode_image(pictures()).equal(exact)
    monkeypatch.setattr("uniperceiver.devices.has_bfloat16", lambda device: True)
    assert not uniperceiver.load(folder, "auto", dtype="auto").encode_image(pictures()).equal(exact)


def test_answers_do_not_depend_on_the_batch(folder: Path) -> None:
    together, apart = (uniperceiver.load(folder, batch=batch) for batch in (64, 2))
    assert (together.batch, apart.batch) == (64, 2)
    torch.testing.assert_close(together.encode_image(pictures()), apart.encode_image(pictures()), atol=1e-5, rtol=0)


def test_a_photograph_is_read_as_a_draft_where_that_is_asked_for(folder: Path) -> None:
    whole, draft = (uniperceiver.load(folder, decode=decode) for decode in (None, "draft"))
    assert {view.decode for view in whole.preprocess.values()} == {"full"}
    assert {view.decode for view in draft.preprocess.values()} == {"draft"}
    z_ND, draft_ND = (model.encode_image(photograph(480, 640), task="colours") for model in (whole, draft))
    assert not draft_ND.equal(z_ND)
    assert (draft_ND * z_ND).sum() > 0.9999


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"dtype": "int8"}, "dtype 'int8': is none that a model computes in; use float32, bfloat16, float16 or auto"),
        ({"dtype": torch.float64}, "dtype 'float64': is none"),
        ({"batch": 0}, "batch must be a number of items, 1 or more, found 0"),
        ({"batch": True}, "batch must be a number of items, 1 or more, found True"),
        ({"decode": "small"}, "decode 'small': use full or draft"),
        ({"device": "abacus"}, "device 'abacus'"),
    ],
)
def test_what_cannot_be_had_is_a_line(folder: Path, options: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=f"^{line}"):
        uniperceiver.load(folder, **options)
