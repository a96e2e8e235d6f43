"""What proposals come to in the pixels of a picture."""

import json

import numpy as np
import pytest
import torch

from uniperceiver.boxes import centres_of
from uniperceiver.records.regions import PictureThings, ProposalLayer, Regions
from uniperceiver.tasks.localisation.detections import detections_of

NAMES = ("cat", "dog", "fish")


def make_picture(size: tuple[int, int], window: tuple[float, float, float, float] | None = None) -> PictureThings:
    return PictureThings(
        size=size,
        window=window or (0, 0, size[1], size[0]),
        seen_box_G4=np.zeros((0, 4), dtype=np.float32),
        seen_class_G=np.zeros(0, dtype=np.int64),
        seen_crowd_G=np.zeros(0, dtype=bool),
    )


def make_regions(corners: list[list[float]], objectness: list[float], tokens: int) -> Regions:
    box_BQ4 = centres_of(torch.tensor(corners))[None]
    layer = ProposalLayer(objectness_BQ=torch.tensor([objectness]), box_BQ4=box_BQ4)
    chosen_BN = layer.objectness_BQ.argsort(dim=1, descending=True)[:, :tokens]
    return Regions(layers=(layer,), chosen_BN=chosen_BN, start=1)


def test_score_is_objectness_times_likelihood_best_first() -> None:
    regions = make_regions([[0.1, 0.2, 0.5, 0.6], [0.0, 0.0, 1.0, 1.0], [0.4, 0.4, 0.6, 0.6]], [0.0, 2.0, -3.0], 2)
    logits_RK = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 0.0]])  # of query 1, then of query 0
    answer = detections_of(logits_RK, regions, [make_picture((50, 100))], NAMES, most=3)[0]
    thing_N, likely_NK = torch.tensor([2.0, 0.0]).sigmoid(), logits_RK.softmax(dim=1)
    score_NK = (thing_N[:, None] * likely_NK).flatten().sort(descending=True).values
    assert answer.scores == pytest.approx(score_NK[:3].numpy())
    assert answer.labels == ["dog", "cat", "fish"]
    assert answer.boxes[0].tolist() == pytest.approx([0, 0, 100, 50])
    assert answer.boxes[1].tolist() == pytest.approx([10, 10, 50, 30])
    assert len(detections_of(logits_RK, regions, [make_picture((50, 100))], NAMES, most=100)[0]) == 6


def test_boxes_come_back_through_the_window_and_end_at_the_picture() -> None:
    regions = make_regions([[0.25, 0.5, 0.75, 1.0], [-0.2, 0.0, 0.5, 0.5]], [1.0, 0.0], 2)
    picture = make_picture((40, 60), window=(10, 0, 50, 40))
    answer = detections_of(torch.zeros(2, 1), regions, [picture], ["thing"])[0]
    assert answer.boxes[0].tolist() == pytest.approx([20, 20, 40, 40])
    assert answer.boxes[1].tolist() == pytest.approx([2, 0, 30, 20])
    outside = make_picture((40, 30), window=(10, 0, 50, 40))
    assert detections_of(torch.zeros(2, 1), regions, [outside], ["thing"])[0].boxes[0].tolist() == [20, 20, 30, 40]


def test_masks_are_interpolated_to_the_pixels_of_the_window() -> None:
    regions = make_regions([[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]], [1.0, 0.0], 2)
    left_half = torch.tensor([[4.0, 4.0, -4.0, -4.0]] * 4)
    layer = regions.layers[0]
    masked = ProposalLayer(
        objectness_BQ=layer.objectness_BQ, box_BQ4=layer.box_BQ4, mask_BQHW=torch.stack([left_half, -left_half])[None]
    )
    regions = Regions(layers=(masked,), chosen_BN=regions.chosen_BN, start=1)
    picture = make_picture((20, 40), window=(8, 0, 28, 20))
    masks = detections_of(torch.zeros(2, 1), regions, [picture], ["thing"])[0].masks
    assert masks is not None
    assert masks.shape == (2, 20, 40)
    assert masks[0, :, 8:18].all()
    assert not masks[0, :, 18:].any()
    assert masks[1, :, 18:28].all()
    assert not masks[:, :, :8].any()
    assert not masks[:, :, 28:].any()


def test_coco_entries_have_corner_and_size_and_the_ids_of_the_file() -> None:
    regions = make_regions([[0.1, 0.2, 0.5, 0.6]], [5.0], 1)
    answer = detections_of(torch.tensor([[9.0, 0.0, 0.0]]), regions, [make_picture((50, 100))], NAMES, most=1)[0]
    (entry,) = answer.as_coco(7, {"cat": 18, "dog": 1, "fish": 90})
    assert (entry["image_id"], entry["category_id"]) == (7, 18)
    assert entry["bbox"] == pytest.approx([10, 10, 40, 20])
    assert entry["score"] == pytest.approx(float(answer.scores[0]))
    assert answer.as_coco("a.jpg")[0]["category_id"] == 1
    (entry,) = answer.as_coco(np.int64(7), {"cat": np.int32(18)})  # type: ignore[arg-type, dict-item]
    assert json.loads(json.dumps(entry)) == answer.as_coco(7, {"cat": 18})[0]
    with pytest.raises(KeyError, match="cat"):
        answer.as_coco(7, {"dog": 1})


def test_masks_are_made_of_what_is_asked_for_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is as large as the picture: a hundred of twelve megapixels are more than a gigabyte."""
    plain = make_regions([[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]], [3.0, -3.0], 2)
    layer = plain.layers[0]
    mask_BQHW = torch.stack([torch.full((4, 4), 4.0), torch.full((4, 4), -4.0)])[None]
    masked = ProposalLayer(objectness_BQ=layer.objectness_BQ, box_BQ4=layer.box_BQ4, mask_BQHW=mask_BQHW)
    regions = Regions(layers=(masked,), chosen_BN=plain.chosen_BN, start=1)
    made: list[int] = []
    interpolate = torch.nn.functional.interpolate

    def counted(x: torch.Tensor, **options: object) -> torch.Tensor:
        made.append(len(x))
        return interpolate(x, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("uniperceiver.tasks.localisation.detections.F.interpolate", counted)
    whole = detections_of(torch.zeros(2, 3), regions, [make_picture((10, 20))], NAMES)[0]
    assert len(made) == 2  # of six answers: a proposal has one mask, whatever its name
    assert whole.masks is not None
    assert whole.masks.all(axis=(1, 2)).tolist() == [True] * 3 + [False] * 3
    made.clear()
    best = detections_of(torch.zeros(2, 3), regions, [make_picture((10, 20))], NAMES, least=0.3)[0]
    assert best.masks is not None
    assert (len(best), len(best.masks), len(made)) == (3, 3, 1)
    assert best.scores.tolist() == whole.scores[:3].tolist()
    boxes = detections_of(torch.zeros(2, 3), regions, [make_picture((10, 20))], NAMES, least=0.3, masks=False)[0]
    assert boxes.masks is None
    assert (boxes.boxes.tolist(), len(made)) == (best.boxes.tolist(), 1)
