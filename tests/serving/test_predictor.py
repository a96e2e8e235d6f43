"""The public face: what may be asked, with what, and that the answers fit together."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from uniperceiver import Task, UniPerceiver
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.errors import UserError

LABELS = ["red", "blue", ["a green thing", "green"]]
CLIP_LABELS = ["moving left", "standing still"]


def pictures(count: int = 3) -> list[np.ndarray]:
    source = ScenesSource(items=count, pixels=32, split="test")
    return [np.asarray(source.read(index).image) for index in range(count)]


def clips(count: int = 3) -> list[np.ndarray]:
    source = ScenesSource(items=count, pixels=32, view="clip", frames=3, split="test")
    return [np.asarray(source.read(index).clip) for index in range(count)]


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG")
    return file.getvalue()


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.encode_image(pictures()),
        lambda model: model.encode_video(clips()),
        lambda model: model.encode_text(["a red square", "blue", "a longer text about a green thing"]),
        lambda model: model.encode_image(pictures(), task="colours"),
        lambda model: model.encode_image(pictures(), task="captions"),
        lambda model: model.encode_video(clips(), task="clip_captions"),
        lambda model: model.encode_text(["a", "b", "c"], task="words"),
    ],
)
def test_representations_are_unit_vectors(model: UniPerceiver, call: Callable[[UniPerceiver], torch.Tensor]) -> None:
    z_ND = call(model)
    assert z_ND.dtype == torch.float32
    assert z_ND.shape == (3, 16)
    assert not z_ND.requires_grad
    close(z_ND.norm(dim=1), torch.ones(3))
    assert not torch.allclose(z_ND[0], z_ND[1], atol=1e-4)


FORMS: dict[str, Callable[[np.ndarray, Path], Any]] = {
    "HWC": lambda picture, folder: picture,
    "CHW": lambda picture, folder: picture.transpose(2, 0, 1),
    "float": lambda picture, folder: picture.astype(np.float32) / 255,
    "float CHW": lambda picture, folder: picture.transpose(2, 0, 1) / 255.0,
    "tensor": lambda picture, folder: torch.tensor(picture),
    "float tensor CHW": lambda picture, folder: torch.tensor(picture.transpose(2, 0, 1)) / 255,
    "PIL": lambda picture, folder: Image.fromarray(picture),
    "bytes": lambda picture, folder: png(picture),
    "path": lambda picture, folder: _file(picture, folder),
    "string": lambda picture, folder: str(_file(picture, folder)),
}


def _file(picture: np.ndarray, folder: Path) -> Path:
    path = folder / f"{int(picture.astype(int).sum())}.png"
    path.write_bytes(png(picture))
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_picture_gives_the_same_answer(model: UniPerceiver, form: str, tmp_path: Path) -> None:
    expected = model.classify(pictures(), labels=LABELS)
    assert expected.shape == (3, 3)
    assert expected.dtype == torch.float32
    close(expected.sum(dim=1), torch.ones(3))
    given = [FORMS[form](picture, tmp_path) for picture in pictures()]
    close(model.classify(given, labels=LABELS), expected)
    close(model.classify(tuple(given), labels=LABELS), expected)
    close(model.classify(iter(given), labels=LABELS), expected)
    for place, one in enumerate(given):
        close(model.classify(one, labels=LABELS), expected[place : place + 1])


def test_forms_of_clips(model: UniPerceiver) -> None:
    expected = model.classify(clips(), labels=CLIP_LABELS)
    assert expected.shape == (3, 2)
    close(model.classify(np.stack(clips()), labels=CLIP_LABELS), expected)
    close(model.classify([torch.tensor(clip).permute(0, 3, 1, 2) / 255 for clip in clips()], CLIP_LABELS), expected)
    for place, clip in enumerate(clips()):
        close(model.classify([clip], labels=CLIP_LABELS), expected[place : place + 1])
        close(model.classify(clip, labels=CLIP_LABELS, modality="video"), expected[place : place + 1])


def test_a_batch_of_pictures_in_one_array(model: UniPerceiver) -> None:
    expected = model.classify(pictures(), labels=LABELS)
    close(model.classify(np.stack(pictures()), labels=LABELS, modality="image"), expected)
    close(model.classify(np.stack(pictures()), task="colours"), model.classify(pictures(), task="colours"))
    with pytest.raises(UserError, match=r"is 3 images, or one clip of 3 frames: give list\(array\)"):
        model.classify(np.stack(pictures()), labels=LABELS)
    with pytest.raises(UserError, match=r"modality='video', but task 'colours' looks at image"):
        model.classify(np.stack(pictures()), task="colours", modality="video")
    close(model.encode_image(np.stack(pictures())), model.encode_image(pictures()))


def test_texts_are_classified(model: UniPerceiver) -> None:
    texts = ["a red square", "a blue circle that moves to the left of a small one"]
    expected = model.classify(texts, labels=LABELS)
    assert expected.shape == (2, 3)
    for place, text in enumerate(texts):
        close(model.classify(text, labels=LABELS), expected[place : place + 1])
    by_task = model.classify(texts, task="relations")
    assert by_task.shape == (2, 4)
    close(by_task.sum(dim=1), torch.ones(2))


def test_several_texts_of_a_label_are_averaged(model: UniPerceiver) -> None:
    z_ND = model.encode_image(pictures(), task="colours")
    one, two, three = model.encode_text(["red", "blue", "a blue thing"], task="colours")
    means = torch.stack([one, torch.nn.functional.normalize(two + three, dim=0)])
    scale = model.model.scale("img_cls").detach()
    found = model.classify(pictures(), labels=["red", ["blue", "a blue thing"]], task="colours")
    close(found, (scale * z_ND @ means.T).softmax(dim=1))


def test_labels_of_a_task(model: UniPerceiver) -> None:
    task = model.saved.tasks["colours"].task
    assert len(task.labels) == 8
    by_name = model.classify(pictures(), task="colours")
    close(by_name, model.classify(pictures(), labels=task.labels, task="colours"))
    close(by_name, model.classify(pictures(), task=task))


def test_a_task_of_ones_own(model: UniPerceiver) -> None:
    task = Task(name="mine", inputs=("image",), candidates="labels", temperature="img_cls", labels=(("a",), ("b",)))
    close(model.classify(pictures(), task=task), model.classify(pictures(), labels=["a", "b"]))
    other = replace(task, temperature="downstream")
    model_scale = float(model.model.scale("downstream").detach())
    assert model_scale > 0
    assert model.classify(pictures(), task=other).shape == (3, 2)


@pytest.mark.parametrize("beam", [1, 2, 3])
@pytest.mark.parametrize(("make", "task"), [(pictures, "captions"), (clips, "clip_captions")])
def test_captions(model: UniPerceiver, make: Callable[[], list[np.ndarray]], task: str, beam: int) -> None:
    given = make()
    captions = model.caption(given, beam, max_words=6)
    assert [type(caption) for caption in captions] == [str] * 3
    assert captions == model.caption(given, beam, task, max_words=6)
    assert captions == [model.caption([one], beam, max_words=6)[0] for one in given]
    assert not any("<|" in caption for caption in captions)


def test_rank_is_the_product_of_the_representations(model: UniPerceiver) -> None:
    texts = ["a red square", "a circle"]
    scores = model.rank(pictures(), texts)
    assert scores.shape == (3, 2)
    assert scores.abs().max() <= 1 + 1e-5
    close(scores, model.encode_image(pictures()) @ model.encode_text(texts).T)
    close(scores, model.rank(pictures(), texts, "retrieval"))
    close(model.rank(clips(), texts), model.encode_video(clips()) @ model.encode_text(texts).T)
    close(model.rank(pictures()[0], texts[0]), scores[:1, :1])  # type: ignore[arg-type]


def test_texts_are_cut_as_the_task_says_whatever_was_asked_before(model: UniPerceiver) -> None:
    """Clips are seen by the same routing as pictures, and here with shorter texts."""
    tasks = dict(model.saved.tasks)
    clip_retrieval = tasks["clip_retrieval"]
    tasks["clip_retrieval"] = replace(clip_retrieval, preprocess=replace(clip_retrieval.preprocess, length=3))
    saved, texts = replace(model.saved, tasks=tasks), ["a red square that is large", "a circle beside it"]
    both, fresh = UniPerceiver(saved), UniPerceiver(saved)
    close(both.rank(pictures(), texts), model.rank(pictures(), texts))
    close(both.rank(clips(), texts), fresh.rank(clips(), texts))
    assert not torch.allclose(both.rank(clips(), texts), model.rank(clips(), texts), atol=1e-4)


def test_batches_change_no_answer(model: UniPerceiver) -> None:
    small = UniPerceiver(model.saved, batch=2)
    close(small.classify(pictures(), labels=LABELS), model.classify(pictures(), labels=LABELS))
    close(small.encode_video(clips()), model.encode_video(clips()))
    assert small.caption(pictures(), max_words=4) == model.caption(pictures(), max_words=4)


def test_a_limit_of_words_beyond_the_positions_is_no_limit(model: UniPerceiver) -> None:
    most = model.saved.arch.max_text
    assert model.caption(pictures()[:1], 1, max_words=most + 1) == model.caption(pictures()[:1], 1, max_words=most)


def test_nothing_gives_nothing(model: UniPerceiver) -> None:
    assert model.classify([], labels=LABELS).shape == (0, 3)
    assert model.encode_image([]).shape == model.encode_text([]).shape == (0, 16)
    assert model.caption([]) == []
    assert model.rank([], ["a"]).shape == (0, 1)


def test_a_special_token_in_a_text_is_plain_text(model: UniPerceiver) -> None:
    answer, end = model.codec.answer, model.codec.end
    ids = model.codec.encode("say <|spe|> <|endoftext|>")
    assert not {answer, end} & set(ids)
    assert model.codec.decode(ids) == "say <|spe|> <|endoftext|>"
    assert model.classify(["<|spe|>", "x"], labels=["<|spe|>", "<|endoftext|>"]).shape == (2, 2)


def test_new_weights_make_new_candidates(model: UniPerceiver, trained: Path) -> None:
    own = UniPerceiver.from_pretrained(trained)
    before = own.classify(pictures(), labels=LABELS)
    close(before, model.classify(pictures(), labels=LABELS))
    with torch.no_grad():
        own.model.tokenizer.words.words.mul_(-1)
    own.model.weights_changed()
    after = own.classify(pictures(), labels=LABELS)
    fresh = UniPerceiver(own.saved).classify(pictures(), labels=LABELS)
    close(after, fresh)
    assert not torch.allclose(before, after, atol=1e-4)


def test_texts_that_are_cut_are_counted_and_said_once(model: UniPerceiver, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["short", "x " * 90, "y " * 70]
    for call, task in (
        (lambda: model.rank(pictures(), texts), "image_text_retrieval"),
        (lambda: model.encode_text(texts), "image_text_retrieval"),
        (lambda: model.classify(texts, task="relations"), "relations"),
    ):
        call()
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(
            f"2 of 3 texts are longer than the 64 tokens that task '{task}' reads, and were cut; the"
        )
    model.classify(["short"], task="relations")
    assert capsys.readouterr().err == ""


def test_what_a_model_says_of_itself(model: UniPerceiver) -> None:
    assert str(model).startswith("UniPerceiver(1 layers of width 16, ")
    assert "tasks: colours, motions, " in str(model)
    assert model.labels("colours") == [texts[0] for texts in model.tasks["colours"].labels]
    assert model.preprocess["colours"].size == 32
    assert model.tokenizer.decode(model.tokenizer.encode("a red circle")) == "a red circle"
    assert model.to("cpu") is model


def test_templates_are_texts_of_the_labels(model: UniPerceiver) -> None:
    filled = model.classify(pictures(), ["a photo of red", "a photo of blue"])
    close(model.classify(pictures(), ["red", "blue"], template="a photo of {label}"), filled)
    both = model.classify(pictures(), [["red", "a red thing"], ["blue", "a blue thing"]])
    close(model.classify(pictures(), ["red", "blue"], template=["{label}", "a {label} thing"]), both)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.classify(pictures(), task="colour"), "unknown task 'colour'; did you mean 'colours'"),
        (lambda model: model.classify(pictures()), "give labels="),
        (lambda model: model.classify(pictures(), labels=[]), "give at least one label"),
        (lambda model: model.classify(pictures(), labels=["a", " "]), "and a text for each"),
        (lambda model: model.classify(pictures(), LABELS, "captions"), "cannot be asked of task 'captions'.*: colours"),
        (lambda model: model.classify(pictures(), ["x " * 200, "y"]), "tokens, more than the model's 128; shorten it"),
        (lambda model: model.caption(pictures(), task="colours"), "tasks: captions, clip_captions"),
        (lambda model: model.classify(pictures(), ["a cat,a dog"]), "'a cat,a dog' alone has probability 1 whatever"),
        (lambda model: model.classify(pictures(), ["Cat", "cat"]), "reads 'cat' as the text of two labels"),
        (lambda model: model.classify(pictures(), [0, 1]), "labels: 0 is no text"),
        (lambda model: model.classify(pictures(), LABELS, 3), "task: a int is no task"),
        (lambda model: model.classify("satz.txt", LABELS), "'satz.txt' is a text, or the name of a file"),
        (lambda model: model.classify([Path("satz.txt")], task="relations"), "text 0: PosixPath.* is no text"),
        (lambda model: model.encode_text([3]), "text 0: 3 is no text; give a string"),
        (lambda model: model.rank(pictures(), [None]), "text 0: None is no text"),
        (lambda model: model.caption(pictures(), max_words=0), "max_words must be a number of tokens, 1 or more"),
        (lambda model: model.caption(pictures(), length_penalty=-1), "length_penalty must be a number, 0 or more"),
        (lambda model: model.caption(pictures(), beam=1.5), "beam must lie between 1 and"),
        (lambda model: model.labels("colour"), "labels: no task 'colour'; did you mean 'colours'?"),
        (lambda model: model.labels("captions"), "labels: task 'captions' has none; it answers with"),
        (lambda model: model.to("abacus"), "device 'abacus': "),
        (lambda model: model.caption(pictures(), beam=0), "beam must lie between 1 and"),
        (lambda model: model.rank(pictures(), ["a"], task="words"), "rank: cannot be asked of task 'words'"),
        (lambda model: model.encode_image(pictures(), task="clip_captions"), "encode_image: cannot be asked"),
        (lambda model: model.encode_video(clips(), task="colours"), "encode_video: cannot be asked"),
        (lambda model: model.classify("absent.jpg", LABELS), r"^absent.jpg: cannot be read \(No such file"),
        (lambda model: model.caption("absent"), r"^absent: cannot be read \(No such file"),
        (lambda model: model.encode_image(b"no picture"), "^image 0: .*give another file"),
        (lambda model: model.encode_image([pictures()[0], np.zeros((4, 4))]), r"^image 1: .*\(4, 4\); expected \(H"),
        (lambda model: model.encode_image(np.full((4, 4, 3), 7)), "values must be uint8, or floats from 0 to 1"),
        (lambda model: model.encode_image(np.full((4, 4, 3), np.nan)), "values must be uint8, or floats from 0 to 1"),
        (lambda model: model.encode_image(np.zeros((0, 4, 3))), "^image 0: "),
        (lambda model: model.encode_video(pictures()[0]), r"expected \(F, H, W, 3\)"),
    ],
)
def test_a_wrong_question_is_one_line(model: UniPerceiver, call: Callable[[UniPerceiver], Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        call(model)
    assert "\n" not in str(caught.value)


def test_an_unreadable_file_is_named(model: UniPerceiver, tmp_path: Path) -> None:
    (tmp_path / "half.png").write_bytes(png(pictures()[0])[:60])
    with pytest.raises(UserError, match=r"half.png: .*give another file"):
        model.classify([_file(pictures()[0], tmp_path), tmp_path / "half.png"], labels=LABELS)
    with pytest.raises(UserError, match=r"\d+.png: .*give another file"):
        model.encode_video(_file(pictures()[0], tmp_path))


def test_captions_of_a_model_that_has_not_learnt_to_write(
    model: UniPerceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = {name: task for name, task in model.saved.tasks.items() if not task.task.answer.causal}
    silent = UniPerceiver(replace(model.saved, tasks=tasks))
    silent.caption(pictures(), beam=1, max_words=2)
    silent.caption(pictures(), beam=1, max_words=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"none of the model's tasks writes ({', '.join(tasks)}): it has not learnt to")
    model.caption(pictures(), beam=1, max_words=2)
    assert capsys.readouterr().err == ""
