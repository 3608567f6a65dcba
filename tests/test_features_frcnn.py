"""The Faster R-CNN as a backbone: its checkpoints, odd images, few regions, and the published size."""

import time

import numpy as np
import parity
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from vlret.features.frcnn import FRCNN
from vlret.features.frcnn.config import PUBLISHED, Config
from vlret.features.frcnn.detector import ANCHORS, FasterRCNN, load
from vlret.features.frcnn.heads import Predictions, Predictor, RegionHeads
from vlret.features.frcnn.preprocessing import bilinear, pad, resized
from vlret.features.frcnn.proposals import ProposalGenerator
from vlret.files import InputError

TINY = Config(
    blocks=(1, 1, 2),
    stem_channels=4,
    bottleneck_channels=2,
    channels=4,
    hidden=8,
    objects=5,
    attributes=3,
    cells=4,
    before_suppression=50,
    after_suppression=20,
    regions=6,
    least_regions=6,
    shorter=64,
    longer=96,
)


def random_detector(config, anchors):
    """A detector with random weights that keep activations in range, and anchors of four areas."""
    torch.manual_seed(0)
    model = FasterRCNN(config, anchors)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.fill_(0.3 if name.endswith("conv3.norm") else 1.0)
    for layer in (model.proposal_generator.rpn_head.anchor_deltas, model.roi_heads.box_predictor.bbox_pred):
        layer.weight.data.mul_(0.01)
    areas, ratios = (config.shorter / 12) ** 2 * 4 ** torch.arange(4), torch.tensor([0.5, 1.0, 2.0])
    half = torch.stack([(areas[:, None] / ratios).sqrt(), (areas[:, None] * ratios).sqrt()], dim=-1).view(-1, 2) / 2
    model.proposal_generator.anchor_generator["cell_anchors"][0].data = torch.cat([-half, half], dim=1)[:anchors]
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return random_detector(TINY, anchors=12)


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "pytorch_model.bin"
    torch.save(model.state_dict(), path)
    return path


def backbone(weights, config=TINY):
    return FRCNN(weights, config=config)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_detector_has_the_published_parameters():
    (path,) = parity.cases("layouts", "frcnn_vg_state_dict_layout")
    layout = parity.read(path)
    with torch.device("meta"):
        own = FasterRCNN(PUBLISHED, anchors=12).state_dict()
    assert {name: list(tensor.shape) for name, tensor in own.items()} == layout["keys"]
    assert len(own) == layout["n_keys"] == 640
    assert (PUBLISHED.regions, PUBLISHED.dim) == (36, 2048)


def test_pytorch_and_safetensors_files_load_alike(weights, model, tmp_path):
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    for path in (weights, tmp_path / "model.safetensors"):
        loaded = load(path, TINY)
        assert not loaded.training
        for name, tensor in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor)


def test_the_checkpoint_determines_the_number_of_anchors(tmp_path):
    path = tmp_path / "weights.bin"
    torch.save(random_detector(TINY, anchors=9).state_dict(), path)
    assert load(path, TINY).proposal_generator.anchors(2, 3).shape == (2 * 3 * 9, 4)


DAMAGES = {
    "missing": "1 missing parameters, the first roi_heads.res5.0.conv1.norm.bias",
    "unexpected": "1 unexpected parameters, the first extra",
    "shape": "1 misshapen parameters, the first roi_heads.res5.0.conv1.norm.bias",
    "anchors": "no table proposal_generator",
    "flat anchors": "no table proposal_generator",
    "nested": "expected tensors by name",
    "list": "expected tensors by name",
    "code": "damaged, or not only tensors",
    "text": "damaged, or not only tensors",
}


IN_SAFETENSORS = DAMAGES.keys() - {"nested", "list", "code"}  # which hold only tables of tensors
KINDS = [*(("bin", damage) for damage in DAMAGES), *(("safetensors", damage) for damage in sorted(IN_SAFETENSORS))]


@pytest.mark.parametrize(("kind", "damage"), KINDS)
def test_weights_that_do_not_fit(model, tmp_path, kind, damage):
    path, state, name = tmp_path / f"weights.{kind}", dict(model.state_dict()), "roi_heads.res5.0.conv1.norm.bias"
    if damage in ("missing", "anchors"):
        del state[name if damage == "missing" else ANCHORS]
    elif damage in ("shape", "flat anchors"):
        state[name if damage == "shape" else ANCHORS] = torch.zeros(3)
    elif damage == "unexpected":
        state["extra"] = torch.zeros(1)
    elif damage == "code":
        state[name] = np.random.default_rng
    if damage == "text":
        path.write_text("not a checkpoint")
    elif kind == "bin":
        torch.save({"nested": {"model": state}, "list": list(state.values())}.get(damage, state), path)
    else:
        save_file(state, path)
    with pytest.raises(InputError, match=rf"weights\.{kind}: {DAMAGES[damage]}"):
        load(path, TINY)


def test_missing_weights(tmp_path):
    with pytest.raises(InputError, match=r"gone\.bin: no such file"):
        load(tmp_path / "gone.bin", TINY)


def test_anchors_are_ordered_by_row_then_anchor(model):
    table = model.proposal_generator.anchor_generator["cell_anchors"][0]
    anchors = model.proposal_generator.anchors(2, 3).view(2, 3, 12, 4)
    assert torch.equal(anchors[0, 0], table)
    torch.testing.assert_close(anchors[1, 2, 5], table[5] + torch.tensor([32, 16, 32, 16]))


def test_ties_between_anchors_go_to_the_earlier():
    generator = ProposalGenerator(TINY, anchors=1)
    generator.anchor_generator["cell_anchors"][0].data = torch.tensor([[0.0, 0, 8, 8]])
    logits, deltas = torch.zeros(1, 10, 10), torch.zeros(4, 10, 10)
    logits[0, 7, 3] = 1
    boxes, scores = generator(logits, deltas, (160, 160))
    assert scores.tolist() == [1] + 19 * [0]
    assert boxes[:3].tolist() == [[48, 112, 56, 120], [0, 0, 8, 8], [16, 0, 24, 8]]
    assert len(generator(logits, deltas, (9, 9))[0]) == 1  # all anchors but the first are outside the image


def test_the_attribute_depends_on_the_object_even_on_the_background():
    torch.manual_seed(0)
    predictor, features = Predictor(TINY), torch.randn(1, TINY.dim)
    attributes = []
    for place in range(TINY.objects + 1):
        predictor.cls_score.bias.data = 100.0 * torch.nn.functional.one_hot(torch.tensor(place), TINY.objects + 1)
        attributes.append(predictor(features).attributes)
    assert len(torch.cat(attributes).unique(dim=0)) == TINY.objects + 1


@pytest.mark.parametrize(("overlaps", "least", "expected"), [((0.5, 0.8, 1.0), 1, 2), ((0.5, 0.8, 1.0), 3, 3)])
@pytest.mark.parametrize("rest", [(), (0.9,)])
def test_the_first_overlap_that_leaves_enough_regions_is_used(overlaps, least, expected, rest):
    config = Config(**{**TINY.__dict__, "overlaps": overlaps + rest, "least_regions": least})
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 7], [0, 0, 10, 6], [50, 50, 60, 60]])
    objects = torch.zeros(4, TINY.objects + 1)
    objects[range(4), [3, 1, 0, 2]] = torch.tensor([4.0, 3, 2, 1])
    predicted = Predictions(objects, torch.zeros(4, TINY.attributes + 1), torch.zeros(4, 4 * TINY.objects))
    found = RegionHeads(config).select(predicted, torch.arange(4.0)[:, None], boxes, (100, 100))
    assert found.objects.tolist() == {2: [3, 2], 3: [3, 1, 2]}[expected]
    assert found.features.flatten().tolist() == {2: [0, 3], 3: [0, 1, 3]}[expected]


def test_regions_have_the_boxes_of_their_objects_and_background_is_excluded():
    heads, proposals = RegionHeads(TINY), torch.tensor([[0.0, 0, 10, 20]])
    deltas = torch.arange(TINY.objects).repeat_interleave(4)[None] * torch.tensor([1.0, 0, 0, 0]).repeat(TINY.objects)
    objects = torch.tensor([[0.0, 0, 0, 2, 0, 9]])
    found = heads.select(Predictions(objects, torch.eye(4)[3:], deltas), torch.ones(1, 1), proposals, (100, 100))
    assert (found.objects.tolist(), found.attributes.tolist()) == ([3], [0])
    assert found.object_probabilities.tolist() == [pytest.approx(np.exp(2) / (4 + np.exp(2) + np.exp(9)))]
    assert found.attribute_probabilities.tolist() == [pytest.approx(1 / 3)]  # excluding "none"
    torch.testing.assert_close(found.boxes, torch.tensor([[3.0, 0, 13, 20]]))


def test_half_pixels_are_rounded_up():
    assert resized(1600, 1601, PUBLISHED) == (800, 801)
    assert resized(1603, 1600, PUBLISHED) == (802, 800)


def test_a_constant_image_stays_constant_and_a_slope_a_slope():
    assert (bilinear(torch.full((3, 5, 3), 200, dtype=torch.uint8), 40, 31) == 200).all()
    slope = torch.arange(0, 250, 10, dtype=torch.uint8)[:, None, None].expand(25, 4, 3)
    np.testing.assert_allclose(bilinear(slope, 50, 4)[1:-1].diff(dim=0), 5, rtol=1e-5)
    np.testing.assert_allclose(bilinear(slope, 5, 4)[:, 0, 0], [20, 70, 120, 170, 220], rtol=1e-6)


def test_bilinear_equals_torchs_interpolation():
    for seed, (size, target) in enumerate([((30, 41), (97, 133)), ((90, 40), (31, 77)), ((2, 7), (5, 3))]):
        pixels = torch.from_numpy(noise(*size, seed=seed))
        whole = pixels.permute(2, 0, 1)[None].double()
        expected = torch.nn.functional.interpolate(whole, target, mode="bilinear", align_corners=False)[0]
        np.testing.assert_allclose(bilinear(pixels, *target).permute(2, 0, 1), expected, atol=5e-3)


@pytest.mark.parametrize("size", [(64, 64), (5, 96), (96, 6), (3, 1000), (1001, 777), (50, 75), (999, 37)])
def test_resizing_a_resized_image_changes_nothing(size):
    once = bilinear(torch.from_numpy(noise(*size)), *resized(*size, TINY))
    assert resized(*once.shape[:2], TINY) == once.shape[:2]
    assert torch.equal(bilinear(once, *once.shape[:2]), once)


def test_resizing_large_images_in_the_worker_changes_nothing(weights):
    model, pixels = backbone(weights), noise(400, 300)
    small = model.prepare(pixels)
    assert (small.shape, small.dtype) == ((85, 64, 3), np.float32)
    assert np.array_equal(model.describe([small])[0], model.describe([pixels[:, :, ::-1].copy()])[0])


def test_pad_keeps_the_top_left_and_fills_the_rest():
    images = [torch.ones(3, 20, 30), torch.ones(3, 2, 40)]
    batch, sizes = pad(images, Config(padding=7.0))
    assert batch.shape == (2, 3, 20, 40)
    assert sizes == [(20, 30), (2, 40)]
    assert (batch[1, :, 2:] == 7).all()
    assert (batch[0, :, :, 30:] == 7).all()
    assert torch.equal(batch[0, :, :, :30], images[0])
    assert pad([torch.ones(3, 2, 5)], Config())[0].shape == (1, 3, 16, 16)


def test_pillow_images_and_arrays_give_the_same_features(weights):
    model, pixels = backbone(weights), noise(50, 70)
    images = [model.prepare(pixels), model.prepare(Image.fromarray(pixels))]
    assert (images[0].shape, images[0].dtype) == ((50, 70, 3), np.uint8)
    features, boxes, _ = model.describe(images)
    assert np.array_equal(features[0], features[1])
    assert np.array_equal(boxes[0], boxes[1])
    assert features.std() > 1e-3
    assert (boxes[..., 2:] >= boxes[..., :2]).all()


def test_objects_and_attributes_come_with_the_regions(weights):
    model = backbone(weights)
    found = model.detect(model.prepare(noise(50, 70)))
    assert len(found) == 6
    assert found.objects.max() < TINY.objects
    assert found.attributes.max() < TINY.attributes
    assert (found.object_probabilities.diff() <= 0).all()


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 900), (900, 2), (1, 400), (16, 16), (300, 20)])
def test_images_of_odd_shapes_are_described(weights, size):
    model = backbone(weights)
    features, boxes, _ = model.describe([model.prepare(noise(*size))])
    assert np.isfinite(features).all()
    assert boxes.min() >= 0
    assert boxes.max() <= 1


@pytest.mark.parametrize(("options", "count"), [({"after_suppression": 4}, 4), ({"least_side": 1e9}, 0)])
def test_rows_without_a_region_are_zeros(weights, options, count):
    config = Config(**{**TINY.__dict__, **options})
    model = backbone(weights, config)
    image = model.prepare(noise(50, 70))
    assert len(model.detect(image)) == count
    features, boxes, counts = model.describe([image])
    assert counts.tolist() == [count]
    assert features[0, :count].any(axis=1).all()
    assert not features[0, count:].any()
    assert not boxes[0, count:].any()


@pytest.mark.parametrize(("fewest", "most"), [(2, 4), (6, 9)])
def test_minimum_and_maximum_regions_are_options(weights, fewest, most):
    model = FRCNN(weights, regions=(fewest, most), config=TINY)
    features, boxes, counts = model.describe([model.prepare(noise(50, 70))])
    assert features.shape == (1, most, TINY.dim)
    assert boxes.shape == (1, most, 4)
    assert fewest <= counts[0] <= most


@pytest.mark.slow
def test_a_full_size_checkpoint_describes_an_image(tmp_path, capsys):
    path = tmp_path / "pytorch_model.bin"
    torch.save(random_detector(PUBLISHED, anchors=12).state_dict(), path)
    model = FRCNN(path)
    image = model.prepare(noise(480, 640))
    assert resized(*image.shape[:2], PUBLISHED) == (800, 1067)
    start = time.perf_counter()
    features, boxes, counts = model.describe([image])
    with capsys.disabled():
        print(f"{time.perf_counter() - start:.1f} s an image of 800 × 1067 on {model.device}")
    assert features.shape == (1, 36, 2048)
    assert counts.tolist() == [36]
    assert boxes.shape == (1, 36, 4)
    assert np.isfinite(features.astype(np.float16)).all()
    assert features.any(axis=2).all()
    assert (boxes[..., 2:] > boxes[..., :2]).all()
