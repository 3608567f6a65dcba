"""Boxes, suppression and pooling against hand-computed examples and torchvision's compiled operators."""

import subprocess
import sys

import pytest
import torch

from vlret.features.frcnn.boxes import apply_deltas, clip, iou, nms
from vlret.features.frcnn.pooling import roi_pool


@pytest.fixture(scope="module")
def compiled():
    """torchvision's operators; skips without them."""
    ops = pytest.importorskip("torchvision.ops")
    try:
        ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except RuntimeError:
        pytest.skip("torchvision without its compiled operators")
    return ops


def random_boxes(seed, count, side=200, grid=None):
    """Boxes that often overlap; on multiples of `grid`, many are equal, touch, or have no area."""
    torch.manual_seed(seed)
    boxes = torch.rand(count, 4) * side
    if grid:
        boxes = (boxes / grid).round() * grid
    return torch.cat([torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])], dim=1)


def test_deltas_shift_relative_to_sides_and_scale_exponentially():
    box = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    deltas = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 2 * torch.log(torch.tensor(3.0)), 0, 0, 100, 0]])
    moved = apply_deltas(deltas, box, (10.0, 10.0, 2.0, 2.0))
    assert moved.shape == (1, 3, 4)
    torch.testing.assert_close(moved[0, 0], torch.tensor([12.0, 20.0, 32.0, 60.0]))
    torch.testing.assert_close(moved[0, 1], torch.tensor([10.0, 36 - 60, 30.0, 36 + 60]))
    torch.testing.assert_close(moved[0, 2], torch.tensor([20 - 625.0, 20, 20 + 625, 60]))


def test_boxes_are_clipped_to_the_image():
    assert clip(torch.tensor([[-3.0, 2, 70, 70], [80, -9, 90, -1]]), 50, 60).tolist() == [
        [0, 2, 60, 50],
        [60, 0, 60, 0],
    ]


def test_iou_by_hand():
    boxes = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6], [1, 1, 1, 1]])
    assert iou(boxes[:2], boxes[:3]).tolist() == [[1, pytest.approx(1 / 3), 0], [pytest.approx(1 / 3), 1, 0]]
    assert iou(boxes[3:], boxes[3:]).isnan().all()


def test_suppression_by_hand():
    boxes = torch.tensor([[0.0, 0, 10, 7], [0, 0, 10, 10], [0, 0, 10, 8.5], [50, 50, 60, 60]])
    scores = torch.tensor([0.7, 0.9, 0.8, 0.1])
    assert nms(boxes, scores, 0.8, 4).tolist() == [1, 0, 3]  # the third, suppressed, does not suppress the first
    assert nms(boxes, scores, 0.6, 4).tolist() == [1, 3]
    assert nms(boxes, scores, 0.8, 1).tolist() == [1]
    assert nms(boxes, torch.ones(4), 0.8, 4).tolist() == [0, 1, 3]
    assert nms(boxes[:0], scores[:0], 0.5, 4).tolist() == []


@pytest.mark.parametrize("grid", [None, 1, 20, 50])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_suppression_equals_torchvisions(compiled, grid, threshold):
    for seed, count in enumerate([1, 2, 40, 700, 1300]):
        boxes = random_boxes(seed, count, grid=grid)
        tied = torch.randint(0, 20, (count,)) / 7
        for scores in (torch.rand(count), tied):
            expected = compiled.nms(boxes, scores, threshold)
            assert torch.equal(nms(boxes, scores, threshold, count), expected)
            assert torch.equal(nms(boxes, scores, threshold, 36), expected[:36])


def test_an_overlap_equal_to_the_threshold_is_treated_as_by_torchvision(compiled):
    one = torch.tensor([0.0, 0, 1, 10])
    for share in range(1, 10):
        boxes = torch.stack([one, torch.tensor([0.0, 0, 1, share])])
        scores = torch.tensor([1.0, 0.5])
        expected = compiled.nms(boxes, scores, share / 10)
        assert torch.equal(nms(boxes, scores, share / 10, 2), expected)


def test_pooling_by_hand():
    features = torch.arange(20.0).view(1, 4, 5)
    whole = roi_pool(features, torch.tensor([[0.0, 0, 64, 48]]), 2, 1 / 16)
    assert whole.tolist() == [[[[7, 9], [17, 19]]]]
    assert roi_pool(features, torch.tensor([[8.0, 7, 8, 7]]), 1, 1 / 16).tolist() == [[[[1]]]]  # halves round up
    assert roi_pool(features, torch.tensor([[90.0, 0, 99, 9]]), 1, 1 / 16).tolist() == [[[[0]]]]  # outside


@pytest.mark.parametrize("size", [1, 2, 7, 14])
@pytest.mark.parametrize("grid", [None, 8, 16])
def test_pooling_equals_torchvisions(compiled, size, grid):
    for seed, (height, width) in enumerate([(1, 1), (3, 50), (13, 12), (40, 25)]):
        torch.manual_seed(seed)
        features = torch.randn(3, height, width) - 1
        beyond = random_boxes(seed, 200, side=16 * 70, grid=grid) - 16 * 10
        for boxes in (beyond, beyond[:, [2, 3, 0, 1]], beyond[:0]):  # corners in the wrong order are one cell
            expected = compiled.roi_pool(features[None], [boxes], size, 1 / 16)
            assert torch.equal(roi_pool(features, boxes, size, 1 / 16), expected)


def test_the_detector_needs_no_torchvision():
    code = "import sys; sys.modules['torchvision'] = None; import vlret.features.frcnn"
    subprocess.run([sys.executable, "-c", code], check=True)
