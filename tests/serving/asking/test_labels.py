"""What may be answered: labels as they are given, and refused."""

import numpy as np
import pytest
import torch

from uniperceiver.errors import UserError
from uniperceiver.serving.asking.labels import classifies, label_texts, labels_asked, refuse_equal, same_labels


def test_a_class_has_a_text_or_several() -> None:
    assert label_texts(["a", ["b", "c"]]) == (("a",), ("b", "c"))
    with pytest.raises(UserError, match=r"give a list of texts, such as \['cat'\]"):
        label_texts("cat")


@pytest.mark.parametrize(
    ("question", "inputs", "with_text", "fits"),
    [
        ("classify", ("image",), False, True),
        ("classify", ("image",), True, False),
        ("classify", ("image", "text"), True, True),
        ("classify", ("image", "text"), False, False),
        ("classify", ("text",), False, True),
        ("classify", ("text",), True, False),
        ("caption", ("image",), False, False),
        (None, ("image",), False, False),
    ],
)
def test_which_tasks_are_classified_by(
    question: str | None, inputs: tuple[str, ...], with_text: bool, fits: bool
) -> None:
    assert classifies(question, inputs, with_text=with_text) is fits


def test_the_labels_of_a_call_are_its_own_or_the_task_s() -> None:
    own = (("cat",), ("dog", "hound"))
    assert labels_asked(own, None, None, str.lower) == own
    assert labels_asked(own, ["a", "b"], None, str.lower) == (("a",), ("b",))
    assert labels_asked(own, None, "a {label}", str.lower) == (("a cat",), ("a dog", "a hound"))
    assert labels_asked((("alone",),), None, None, str.lower) == (("alone",),)
    with pytest.raises(UserError, match="the text of two labels"):
        labels_asked(own, ["a", "A"], None, str.lower)


def test_labels_are_compared_in_composed_form() -> None:
    assert same_labels([["cafe\u0301"]]) == same_labels([["caf\u00e9"]]) == (("caf\u00e9",),)


def test_labels_that_are_no_texts_are_named() -> None:
    for labels, message in (
        ([0, 1], "labels: 0 is no text; give what the class is called"),
        ([["a", 3], "b"], "labels: 3 is no text"),
        ({"a", "b"}, "labels: a set is no list of texts; give a list, in the order of the scores"),
        ({"a": "b"}, "labels: a dict is no list"),
        (3, "labels: a int is no list"),
        ([b"a", "b"], "labels: b'a' is no text"),
        (np.array([1, 2]), r"labels: np\.int64\(1\) is no text"),
        (torch.tensor([1, 2]), r"labels: tensor\(1\) is no text"),
        (torch.tensor(1), "labels: a Tensor is no list"),
        (np.array("a"), "labels: a ndarray is no list"),
        (["a", ""], "and a text for each"),
    ):
        with pytest.raises(UserError, match=message):
            label_texts(labels)  # type: ignore[arg-type]


def test_labels_in_templates() -> None:
    expected = (("a photo of a cat", "cat."), ("a photo of a dog", "dog.", "a photo of a puppy", "puppy."))
    assert label_texts(["cat", ["dog", "puppy"]], ["a photo of a {label}", "{label}."]) == expected
    assert label_texts(["cat"], "a photo of a {label}") == (("a photo of a cat",),)
    for template in ("a photo", "{label} {label}"):
        with pytest.raises(UserError, match=r"write {label} once, where the label stands"):
            label_texts(["cat"], template)


def test_labels_that_cannot_be_told_apart_are_refused() -> None:
    refuse_equal((("cat", "kitten"), ("dog",)), str.lower)
    with pytest.raises(UserError, match="'Cat' as the text of two labels"):
        refuse_equal((("cat",), ("dog", "Cat")), str.lower)
    with pytest.raises(
        UserError, match=r"'a cat,a dog' alone has probability 1 .* two or more, such as 'a cat' 'a dog'"
    ):
        refuse_equal((("a cat,a dog",),), str.lower)
