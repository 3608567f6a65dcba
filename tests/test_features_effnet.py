"""Our EfficientNet-Lite0 equals the published one, tensor by tensor."""

import numpy as np
import pytest
import torch
from PIL import Image
from random_effnet import random_effnet

from vlret.features.effnet import SIZE, EffNet, load
from vlret.features.squares import grid_boxes
from vlret.files import InputError


@pytest.fixture(scope="module")
def oracle():
    return random_effnet()


@pytest.fixture(scope="module")
def weights(oracle, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "efficientnet-lite0.pth"
    torch.save(oracle.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)


def channels_first(pixels):
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127) / 128


def whole(pixels):
    return [(image, np.float32([0, 0, 1, 1])) for image in pixels]


def published_features(oracle, pixels):
    with torch.inference_mode():
        return oracle.extract_features(channels_first(pixels))


def test_renamed_weights_reproduce_the_published_features(oracle, weights, pixels):
    with torch.inference_mode():
        ours = load(weights).eval().forward_features(channels_first(pixels))
    assert torch.equal(ours, published_features(oracle, pixels))


def test_describe_gives_the_grid_row_by_row(oracle, weights, pixels):
    features, boxes, counts = EffNet(weights).describe(whole(pixels))
    assert counts.tolist() == [49] * 3
    expected = published_features(oracle, pixels).numpy()
    assert features.shape == (3, 49, 1280)
    assert boxes.shape == (3, 49, 4)
    np.testing.assert_allclose(features[:, 7 * 2 + 5], expected[:, :, 2, 5], atol=2e-3)
    np.testing.assert_allclose(boxes[0, 7 * 2 + 5], [5 / 7, 2 / 7, 6 / 7, 3 / 7], rtol=1e-6)
    assert np.ptp(expected) > 1


def test_an_image_does_not_depend_on_its_batch(weights, pixels):
    backbone = EffNet(weights)
    together = backbone.describe(whole(pixels))[0]
    alone = np.concatenate([backbone.describe([image])[0] for image in whole(pixels)])
    np.testing.assert_allclose(together, alone, atol=2e-3)


def test_grid_boxes_tile_the_image():
    boxes = grid_boxes(7, 7)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert boxes.min() == 0
    assert boxes.max() == 1
    assert areas.sum() == pytest.approx(1)
    np.testing.assert_allclose(areas, 1 / 49, rtol=1e-5)


def test_both_ends_of_a_wide_flag_are_visible(weights):
    flag = Image.new("RGB", (400, 100))
    flag.paste((255, 0, 0), (0, 0, 60, 100))
    flag.paste((0, 0, 255), (340, 0, 400, 100))
    pixels, box = EffNet(weights).prepare(flag)
    assert (pixels.shape, pixels.dtype) == ((SIZE, SIZE, 3), np.uint8)
    assert pixels[100, 5].tolist() == [255, 0, 0]
    assert pixels[100, -5].tolist() == [0, 0, 255]
    assert box.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("damage", ["missing", "renamed", "shape", "text", "code"])
def test_weights_that_do_not_fit(oracle, tmp_path, damage):
    path = tmp_path / "weights.pth"
    state = dict(oracle.state_dict())
    if damage == "missing":
        del state["_fc.bias"]
    elif damage == "renamed":
        state["_extra.weight"] = state.pop("_fc.weight")
    elif damage == "shape":
        state["_fc.bias"] = torch.zeros(3)
    elif damage == "code":
        state["_fc.bias"] = np.random.default_rng
    torch.save(state, path)
    if damage == "text":
        path.write_text("not a checkpoint")
    with pytest.raises(InputError, match=r"weights\.pth: not the weights"):
        load(path)
    with pytest.raises(InputError, match="no such file"):
        load(tmp_path / "gone.pth")
