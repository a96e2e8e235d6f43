"""The benchmark of captions runs, and both of its ways to write come to the same texts."""

import math
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.caption import Scale, Subject, measure, of_run, word_at
from benchmarks.without_cache import WithoutCache
from tests.small_run import small_recipe, train
from tests.tiny import tiny_codec, tiny_model
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.errors import UserError
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.decode import generate

TINY = Scale(batches=(2,), words=4, places=(2, 5))


def tiny_subject(name: str = "image_captioning") -> Subject:
    codec = tiny_codec()
    preprocess = Preprocess(size=32, frames=2)
    return Subject(
        name="tiny",
        model=tiny_model(),
        task=CATALOGUE[name],
        index=0,
        preprocess=preprocess,
        end=codec.end,
        answer=codec.answer,
    )


@pytest.mark.parametrize("name", ["image_captioning", "video_captioning"])
@pytest.mark.parametrize("beams", [1, 3])
def test_both_ways_write_the_same(name: str, beams: int) -> None:
    subject = tiny_subject(name)
    write = partial(generate, prefix=subject.prefix(3), logits_of=subject.scorer(), end=subject.end, words=6)
    cached, plain = (write(model, beams=beams) for model in (subject.model, WithoutCache(subject.model)))
    assert torch.equal(cached.ids_BS, plain.ids_BS)
    assert cached.ids_BS.shape == (3, 6)  # nobody ends early
    assert len(cached.ids_BS.unique()) > 2
    torch.testing.assert_close(cached.log_likelihood_BS, plain.log_likelihood_BS, atol=1e-4, rtol=1e-4)


def test_a_word_can_be_written_again() -> None:
    subject = tiny_subject()
    step = word_at(subject, subject.prefix(2), 4)
    assert torch.equal(step(), step())
    assert not torch.equal(step(), word_at(subject, subject.prefix(2), 5)())


def test_every_row_is_measured(trained: Path) -> None:
    rows = {row.name.removeprefix("caption/"): row for row in measure(1, trained, TINY)}
    assert all(math.isfinite(row.value) and row.value > 0 for row in rows.values())
    what = "tiny, captions/batch2/threads1"
    assert [name for name in rows if name.startswith("speed")] == [
        f"speed, 4 words/{what}/{decoding}" for decoding in ("greedy", "beam 2")
    ]
    assert rows[f"word 5 over word 2/{what}/but for attention"].goal == 1.05
    assert rows[f"word 2/{what}"].unit == "ms"


def test_a_run_without_captions_is_refused(tmp_path: Path) -> None:
    train(tmp_path / "run", small_recipe(("colours",), steps=1))
    with pytest.raises(UserError, match="run: its tasks colours write no captions; name a run with a captioning task"):
        list(of_run(tmp_path / "run"))
