"""SAMPLE -> BATCH: what each kind of task sees of a sample, and where its answers are read.

Shape suffixes: B sequences, N tokens, R read-outs.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.parts import flat
from tests.tiny import VIEW, tiny_batch, tiny_codec, tiny_prepared, tiny_task
from uniperceiver.config import AugmentConfig
from uniperceiver.data.batch import Kept, Prepared, collate, prepare, soft_labels
from uniperceiver.data.media.objects import framed
from uniperceiver.data.media.preprocess import READERS, MediaReader, image_pixels
from uniperceiver.errors import BrokenSample
from uniperceiver.records import Sample
from uniperceiver.records.sounds import Sound
from uniperceiver.streams import numpy_stream
from uniperceiver.tasks.answers.kind import Asked
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.sequences import cut
from uniperceiver.tasks.task import Task
from uniperceiver.tasks.text import Text

IMAGE = np.full((32, 32, 3), 90, dtype=np.uint8)
FULL = Sample(id="s", image=IMAGE, clip=IMAGE[None], text="a red dot", captions=("a dot", "a red dot moves"), label=1)


def prepared(name: str, sample: Sample = FULL, *, training: bool = False, seed: int = 0, **view: Any) -> Prepared:
    augment = AugmentConfig() if training else None
    return prepare(tiny_task(name), sample, replace(VIEW, **view), tiny_codec(), augment, numpy_stream(seed))


@pytest.mark.parametrize("name", CATALOGUE)
def test_batches_have_what_their_task_declares(name: str) -> None:
    task, batch = tiny_task(name), tiny_batch(name)
    assert batch.task == name
    assert batch.ids == tuple(f"scenes/train/00000{index}" for index in range(3))
    assert batch.inputs.facts == task.facts("input")
    shapes = {"image": (3, 1, 3, 32, 32), "video": (3, 2, 3, 32, 32), "audio": (3, 8, 8)}
    assert {part.modality: part.values.shape for part in batch.inputs.media} == {
        modality: torch.Size(shapes[modality]) for modality in task.media
    }
    assert {part.modality: part.step for part in batch.inputs.media} == {
        modality: 32.0 if modality == "audio" else 0.0 for modality in task.media
    }
    text = batch.inputs.text
    assert (text is not None) == ("text" in task.inputs)
    assert (text is not None and text.order_BN is not None) == (task.read_at == "next")
    assert (batch.candidates is not None) == (task.candidates == "in_batch")
    assert batch.candidates is None or [part.modality for part in batch.candidates.parts] == [task.target]
    assert batch.readout.summary == (task.read_at == "summary")
    assert batch.inputs.size == 3


@pytest.mark.parametrize(
    ("name", "missing", "reason"),
    [
        ("image_classification", "image", "has no image"),
        ("video_classification", "clip", "has no clip"),
        ("text_classification", "text", "has no text"),
        ("masked_language_modelling", "text", "has no text"),
        ("image_captioning", "captions", "has no caption"),
        ("video_captioning", "clip", "has no clip"),
        ("image_text_retrieval", "captions", "has no caption"),
        ("video_text_retrieval", "clip", "has no clip"),
    ],
)
def test_a_missing_field_breaks_the_sample(name: str, missing: str, reason: str) -> None:
    with pytest.raises(BrokenSample, match=reason) as caught:
        prepared(name, replace(FULL, **{missing: () if missing == "captions" else None}))
    assert caught.value.sample == "s"
    assert prepared(name).id == "s"


def test_a_text_of_blanks_is_no_text() -> None:
    with pytest.raises(BrokenSample, match="has no text"):
        prepared("text_classification", replace(FULL, text=" \n\t"))


@pytest.mark.parametrize("name", ["image_classification", "text_classification"])
def test_a_label_is_needed_to_learn_and_not_to_answer(name: str) -> None:
    without = replace(FULL, label=None)
    with pytest.raises(BrokenSample, match="has no label"):
        prepared(name, without, training=True)
    batch = collate(tiny_task(name), [prepared(name, without), prepared(name)], tiny_codec())
    assert batch.readout.target_R.tolist() == [-1, 1]
    assert prepared("image_captioning", without, training=True).asked.target == -1


def test_captions_are_words_and_then_a_query_for_each() -> None:
    codec, task = tiny_codec(), tiny_task("image_captioning")
    texts = [[*codec.encode("a dot"), codec.end], [*codec.encode("a red square on blue"), codec.end]]
    asked = [Text(ids=tuple(ids), ask_at=tuple(range(len(ids))), target=tuple(ids)) for ids in texts]
    items = [
        replace(item, asked=Asked(sample=item.id, text=text))
        for item, text in zip(tiny_prepared(task, 2), asked, strict=True)
    ]
    batch = collate(task, items, codec, 5)
    inputs, n = batch.inputs, max(map(len, texts))
    short = len(texts[0])
    assert short < n
    assert inputs.facts.task == 5
    assert flat(inputs).ids_BN.tolist() == [[*ids, *[0] * (n - len(ids)), *[codec.answer] * n] for ids in texts]
    assert flat(inputs).valid_BN.tolist() == [([True] * len(ids) + [False] * (n - len(ids))) * 2 for ids in texts]
    assert flat(inputs).position_BN.tolist() == [[*range(n), *range(n)]] * 2
    assert flat(inputs).order_BN.tolist() == [[*range(1, n + 1), *range(1, n + 1)]] * 2
    assert flat(inputs).query_BN.tolist() == [[False] * n + [True] * n] * 2
    # The read-outs are the queries of real words, in order, and each asks for the word it stands for.
    readout = batch.readout
    assert readout.segment == 1
    assert readout.row_R.tolist() == [0] * short + [1] * n
    assert readout.position_R.tolist() == [n + place for place in (*range(short), *range(n))]
    assert readout.target_R.tolist() == [*texts[0], *texts[1]]
    row_R, position_R = readout.row_R, readout.position_R
    assert bool(flat(inputs).query_BN[row_R, position_R].all())
    assert bool(flat(inputs).valid_BN[row_R, position_R].all())
    word_R = flat(inputs).ids_BN[row_R, flat(inputs).order_BN[row_R, position_R] - 1]
    assert torch.equal(word_R, readout.target_R)


@pytest.mark.parametrize("name", ["masked_language_modelling", "text_classification"])
def test_answers_in_a_text_are_read_behind_the_prefix(name: str) -> None:
    task = tiny_task(name)
    items = tiny_prepared(task, 5, preprocess=replace(VIEW, length=100))
    batch = collate(task, items, tiny_codec())
    readout, ids_BN = batch.readout, flat(batch.inputs).ids_BN
    assert readout.segment == 0
    assert flat(batch.inputs).valid_BN is not None
    expected = [(row, place) for row, item in enumerate(items) for place in item.asked.text.ask_at]
    assert list(zip(readout.row_R.tolist(), (readout.position_R - 1).tolist(), strict=True)) == expected
    asked_R = ids_BN[readout.row_R, readout.position_R - 1]
    if name == "text_classification":
        assert asked_R.tolist() == [tiny_codec().answer] * 5
        assert readout.target_R.tolist() == [item.asked.target for item in items]
    else:
        assert tiny_codec().answer in asked_R
        assert readout.target_R.tolist() == [word for item in items for word in item.asked.text.target]


@pytest.mark.parametrize("length", [3, 5, 12])
@pytest.mark.parametrize("name", ["image_captioning", "image_text_retrieval"])
def test_captions_are_cut_to_the_length_and_end(name: str, length: int) -> None:
    task, codec = tiny_task(name), tiny_codec()
    sample = replace(FULL, captions=("a very long caption about a very long red thing",))
    item = prepared(name, sample, length=length)
    batch = collate(task, [item, item], codec)
    expected = cut(codec.encode(sample.captions[0]), codec.end, length)
    assert len(expected) == length
    ids_BN = flat(batch.inputs).ids_BN[:, :length] if batch.candidates is None else flat(batch.candidates).ids_BN
    assert ids_BN.tolist() == [expected] * 2


@pytest.mark.parametrize("name", ["image_captioning", "video_text_retrieval"])
def test_training_draws_a_caption_and_evaluation_takes_the_first(name: str) -> None:
    codec = tiny_codec()

    def caption(training: bool, seed: int) -> str:
        item = prepared(name, training=training, seed=seed, length=24)
        return codec.decode(item.asked.candidate or item.asked.text.ids)

    assert {caption(False, seed) for seed in range(8)} == {FULL.captions[0]}
    assert {caption(True, seed) for seed in range(20)} == set(FULL.captions)


def test_candidates_with_equal_texts_or_of_the_same_sample_are_right() -> None:
    task = tiny_task("image_text_retrieval")
    named = [("a", (1, 2)), ("b", (3,)), ("c", (1, 2)), ("a", (4, 5)), ("d", (1,))]
    items = [replace(item, id=name, asked=Asked(sample=name, candidate=ids))
             for item, (name, ids) in zip(tiny_prepared(task, 5), named, strict=True)]  # fmt: skip
    batch = collate(task, items, tiny_codec(), 2)
    assert batch.readout.soft_RK.tolist() == [
        [1, 0, 1, 1, 0],
        [0, 1, 0, 0, 0],
        [1, 0, 1, 0, 0],
        [1, 0, 0, 1, 0],
        [0, 0, 0, 0, 1],
    ]
    end = tiny_codec().end
    assert flat(batch.candidates).ids_BN.tolist() == [[1, 2, end], [3, end, 0], [1, 2, end], [4, 5, end], [1, end, 0]]
    assert batch.candidates.facts == task.facts("candidate", 2)


def test_a_text_that_is_only_read_is_wrapped_in_its_template() -> None:
    codec = tiny_codec()
    task = replace(tiny_task("image_text_retrieval"), inputs=("image", "text"), template="about {text}")
    item = prepare(task, FULL, replace(VIEW, length=24), codec, None, numpy_stream(0))
    assert codec.decode(item.asked.text.ids) == "about a red dot"
    assert item.asked.text.ask_at == ()


def test_labels_become_soft_targets() -> None:
    batch = tiny_batch("image_classification", 4)
    soft = soft_labels(batch.readout, 5)
    assert soft.shape == (4, 5)
    assert soft.argmax(dim=1).tolist() == batch.readout.target_R.tolist()
    assert soft.sum(dim=1).tolist() == [1.0] * 4


@pytest.mark.parametrize("name", ["video_classification", "image_classification"])
def test_evaluation_sees_one_view_whatever_the_stream(name: str) -> None:
    """Training begins clips anywhere; evaluation has the middle."""
    clip = np.arange(9, dtype=np.uint8)[:, None, None, None] * np.full((1, 32, 32, 3), 20, np.uint8)
    sample = replace(FULL, clip=clip, image=clip[3])
    task = tiny_task(name)

    def views(augment: AugmentConfig | None) -> list[np.ndarray]:
        made = [prepare(task, sample, VIEW, tiny_codec(), augment, numpy_stream(seed)) for seed in range(6)]
        return [item.media[task.media[0]].numpy() for item in made]

    fixed = views(None)
    assert all(np.array_equal(view, fixed[0]) for view in fixed)
    if name == "video_classification":
        assert any(not np.array_equal(view, fixed[0]) for view in views(AugmentConfig()))


def test_a_template_stands_around_a_text_that_is_classified() -> None:
    plain_task = Task(name="reading", inputs=("text",), candidates="labels", temperature="text_mlm", labels=(("a",),))
    text = prepared_of(replace(plain_task, template="so says {text} today")).asked.text
    assert text is not None
    said = tiny_codec().decode([token for token in text.ids if token != tiny_codec().end])
    assert said.startswith("so says ")
    assert said.endswith(" today")
    plain = prepared_of(plain_task).asked.text
    assert plain is not None
    assert tiny_codec().decode(plain.ids) in said


def prepared_of(task: Task) -> Prepared:
    view = replace(VIEW, length=60)
    return prepare(task, replace(FULL, text="a red star"), view, tiny_codec(), None, numpy_stream(0))


@pytest.mark.parametrize("name", ["object_detection", "instance_segmentation"])
def test_pixels_and_things_go_through_one_window(name: str) -> None:
    """What a batch holds is the view that `framed` draws from the same stream, and its things, in training too."""
    task = tiny_task(name)
    white = np.zeros((40, 60, 3), dtype=np.uint8)
    white[10:30, 15:45] = 255
    sample = Sample(
        id="a",
        image=white,
        boxes=np.array([[15.0, 10, 45, 30]]),
        classes=np.array([2]),
        masks=(white[..., 0] > 0)[None],
    )
    augment = AugmentConfig(crop=0.5, flip=0.5, flip_vertical=0.5)
    view = replace(VIEW, size=32, fit="squash")
    windows = set()
    for seed in range(20):
        item = prepare(task, sample, view, tiny_codec(), augment, numpy_stream(seed))
        expected = framed(sample, view, augment, numpy_stream(seed), masks=16)
        assert torch.equal(item.media["image"], image_pixels(expected, view, None, None))
        batch = collate(task, [item], tiny_codec())
        objects, things = batch.readout.objects, expected.things
        assert objects is not None
        assert things is not None
        windows.add(things.window)
        assert torch.equal(objects.box_BG4[0], torch.from_numpy(things.seen_box_G4))
        assert objects.class_BG.tolist() == [[2]]
        assert objects.pictures == ()
        if name == "object_detection":
            assert objects.mask_BGHW is None
            continue
        assert objects.mask_BGHW is not None
        # The thing is what is bright: its mask covers these pixels.
        bright = item.media["image"][0, 0].unflatten(0, (16, 2)).unflatten(2, (16, 2)).mean(dim=(1, 3)) > 0.5
        assert (bright == objects.mask_BGHW[0, 0]).float().mean() > 0.85
    assert len(windows) == 20


def test_evaluation_keeps_the_picture_of_a_thing_and_training_does_not() -> None:
    kept = tiny_batch("instance_segmentation").readout.objects
    assert kept is not None
    assert len(kept.pictures) == 3
    assert all(picture.box_O4 is not None and picture.masks is not None for picture in kept.pictures)
    trained = tiny_batch("instance_segmentation", augment=AugmentConfig()).readout.objects
    assert trained is not None
    assert trained.pictures == ()
    assert torch.equal(trained.box_BG4, kept.box_BG4)


def test_pictures_of_nothing_are_learnt_and_pictures_of_which_nothing_is_told_are_not() -> None:
    nothing = replace(FULL, boxes=np.zeros((0, 4)), classes=np.zeros(0, dtype=np.int64))
    batch = collate(tiny_task("object_detection"), [prepared("object_detection", nothing, training=True)], tiny_codec())
    assert batch.readout.objects is not None
    assert not batch.readout.objects.known_BG.any()
    with pytest.raises(BrokenSample, match="has no boxes"):
        prepared("object_detection", FULL, training=True)
    assert prepared("object_detection", FULL).id == "s"
    boxed = replace(nothing, boxes=np.array([[1.0, 2, 3, 4]]), classes=np.array([0]))
    with pytest.raises(BrokenSample, match="has no masks"):
        prepared("instance_segmentation", boxed, training=True)


def test_a_clip_and_its_sound_have_one_moment_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    moments: list[tuple[str, float | None]] = []

    def noting(modality: str) -> MediaReader:
        reader = READERS[modality]

        def values(sample: Sample, *rest: Any) -> torch.Tensor:
            moments.append((modality, sample.moment))
            return reader.values(sample, *rest)

        return replace(reader, values=values)

    for modality in ("video", "audio"):
        monkeypatch.setitem(READERS, modality, noting(modality))
    frames = np.zeros((9, 32, 32, 3), np.uint8)
    both = Sample(id="s", clip=frames, others={"audio": Sound(np.zeros(40_000, np.float32), 8000)}, label=0)
    for seed in range(3):
        prepared("video_audio_retrieval", both, training=True, seed=seed)
    assert [modality for modality, _ in moments] == ["video", "audio"] * 3
    drawn = [moment for _, moment in moments if moment is not None]
    assert drawn[::2] == drawn[1::2]
    assert len(set(drawn)) == 3
    moments.clear()
    prepared("video_audio_retrieval", both)
    prepared("audio_classification", both, training=True)
    assert [moment for _, moment in moments] == [None] * 3  # in use the middle; alone, a sound draws its own


def test_which_patches_are_kept_is_drawn_last_of_all() -> None:
    task, kept = tiny_task("image_text_retrieval"), {"image": Kept(tokens=3, of=9)}
    augment, codec = AugmentConfig(crop=0.3, flip=0.5), tiny_codec()
    seen = set()
    for seed in range(20):
        whole = prepare(task, FULL, VIEW, codec, augment, numpy_stream(seed))
        some = prepare(task, FULL, VIEW, codec, augment, numpy_stream(seed), kept)
        assert torch.equal(some.media["image"], whole.media["image"])
        assert some.asked == whole.asked
        assert not whole.keep
        assert some.keep["image"].dtype == torch.int64
        seen.add(tuple(some.keep["image"].tolist()))
    assert all(list(places) == sorted(set(places)) and len(places) == 3 for places in seen)
    assert len(seen) > 10
    assert {place for places in seen for place in places} == set(range(9))
    batch = collate(task, [some, some], codec)
    assert batch.inputs.parts[0].keep_BG.tolist() == [some.keep["image"].tolist()] * 2
    assert collate(task, [whole], codec).inputs.parts[0].keep_BG is None
    assert not prepare(task, FULL, VIEW, codec, None, numpy_stream(0), kept).keep  # evaluation sees all
