"""Whatever is handed to the public calls, what comes out is an answer, or one line that names what is wrong."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from uniperceiver import UniPerceiver, UserError

EXPECTED = (UserError, TypeError, ValueError)
FEW = settings(
    max_examples=25, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip

shapes = st.sampled_from(
    [(), (0,), (3,), (8, 8), (8, 8, 3), (3, 8, 8), (8, 8, 4), (2, 8, 8, 3), (1, 2, 3, 8, 8), (1, 1, 3)]
)
dtypes = st.sampled_from(["uint8", "float32", "float16", "int64", "bool", "complex64", "<U3", "object"])
numbers = st.one_of(st.none(), st.booleans(), st.integers(), st.floats())
texts = st.one_of(st.text(max_size=12), st.sampled_from(["a.png", "a/b", "x\ny", "\0", "~", ".", "a.heic", "\ud800"]))
tensors = st.builds(
    lambda shape, dtype: torch.ones(shape, dtype=dtype),
    shapes,
    st.sampled_from([torch.bfloat16, torch.float32, torch.uint8, torch.int32, torch.bool, torch.complex64]),
)
pictures = st.builds(
    lambda mode, size: Image.new(mode, size),
    st.sampled_from(["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16", "LA", "PA"]),
    st.sampled_from([(1, 1), (8, 5), (0, 3)]),
)
things = st.one_of(
    numbers,
    texts,
    st.binary(max_size=20),
    st.binary(max_size=20).map(bytearray),
    st.binary(max_size=20).map(io.BytesIO),
    st.just(io.StringIO("text")),
    texts.map(Path),
    st.builds(lambda shape, dtype: np.zeros(shape).astype(dtype), shapes, dtypes),
    tensors,
    pictures,
)
anything = st.one_of(
    things,
    st.lists(things, max_size=3),
    st.tuples(things),
    st.dictionaries(st.sampled_from(["image", "text", "video", "x", 3]), st.lists(things, max_size=2), max_size=2),
    st.frozensets(texts, max_size=2),
)
CALLS: dict[str, Callable[[UniPerceiver, Any, Any], Any]] = {
    "classify": lambda model, items, other: model.classify(items, ["a", "b"]),
    "classify a task": lambda model, items, other: model.classify(items, task="colours"),
    "classify texts": lambda model, items, other: model.classify(items, task="relations"),
    "labels": lambda model, items, other: model.classify([np.zeros((8, 8, 3), np.uint8)], items, template=other),
    "templates": lambda model, items, other: model.classify([], ["a", "b"], template=items),
    "task": lambda model, items, other: model.classify(np.zeros((8, 8, 3), np.uint8), task=items, modality=other),
    "texts": lambda model, items, other: model.classify(np.zeros((8, 8, 3), np.uint8), ["a", "b"], texts=items),
    "rank": lambda model, items, other: model.rank(items, ["a"]),
    "rank texts": lambda model, items, other: model.rank(np.zeros((8, 8, 3), np.uint8), items),
    "encode_image": lambda model, items, other: model.encode_image(items),
    "encode_video": lambda model, items, other: model.encode_video(items),
    "encode_text": lambda model, items, other: model.encode_text(items),
    "caption": lambda model, items, other: model.caption(items, 1, max_words=2),
    "caption numbers": lambda model, items, other: model.caption([], items, max_words=other, length_penalty=items),
    "labels of a task": lambda model, items, other: model.labels(items),
    "device": lambda model, items, other: model.to(items if isinstance(items, str) else "cpu"),
    "merge": lambda model, items, other: model.merge(items),
    "routing": lambda model, items, other: model.routing(items),
}


@pytest.mark.parametrize("call", CALLS)
def test_anything_ends_in_an_answer_or_one_line(call: str, model: UniPerceiver) -> None:
    @FEW
    @given(items=anything, other=st.one_of(st.none(), things))
    def ask(items: Any, other: Any) -> None:
        wrong: Exception | None = None
        try:
            CALLS[call](model, items, other)
        except EXPECTED as error:
            wrong = error
        if wrong is not None:
            assert "\n" not in str(wrong)
            assert len(str(wrong)) < 1000
            assert wrong.__cause__ is None

    ask()
