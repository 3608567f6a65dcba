"""CLIP's image towers: equal to open_clip's own forward, and to transformers' CLIP with the same weights."""

import json

import numpy as np
import open_clip
import pytest
import torch
import transformers
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from random_clip import RESNET, SIZES, random_clip

from vlret.features.backbones import load
from vlret.features.clip import Clip
from vlret.files import InputError
from vlret.settings import CLIPVision

CLOSE = {"atol": 2e-6, "rtol": 1e-5}


def photos():
    rng = np.random.default_rng(0)
    wide, high = (Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)) for size in ((40, 90, 3), (77, 33, 3)))
    return [wide, high.resize((150, 200))]


def theirs(folder, images):
    """open_clip's own preprocessing of images: `[images, 3, size, size]`."""
    config = json.loads((folder / "open_clip_config.json").read_text())
    cfg = PreprocessCfg(**config["preprocess_cfg"], size=config["model_cfg"]["vision_cfg"]["image_size"])
    transform = image_transform_v2(cfg, is_train=False)
    return torch.stack([transform(image) for image in images])


def described(model):
    features, boxes, counts = model.describe([model.prepare(image) for image in photos()])
    assert counts.tolist() == [model.regions] * 2
    return torch.from_numpy(features), torch.from_numpy(boxes)


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("vision", [SIZES["vision_cfg"], RESNET])
@torch.inference_mode()
def test_the_joint_vector_equals_open_clips(tmp_path, custom, vision):
    oracle = random_clip(tmp_path / "clip", vision_cfg=vision, custom_text=custom)
    features, boxes = described(Clip(tmp_path / "clip", "joint"))
    assert features.shape == (2, 1, 6)
    torch.testing.assert_close(features[:, 0], oracle.encode_image(theirs(tmp_path / "clip", photos())), **CLOSE)
    # Wide and high images are cropped to their centre.
    np.testing.assert_allclose(boxes[:, 0], [[25 / 90, 0, 65 / 90, 1], [0, 25 / 200, 1, 175 / 200]], atol=0.02)


@torch.inference_mode()
def test_a_resnets_grid_is_its_attention_poolings_input(tmp_path):
    oracle = random_clip(tmp_path / "clip", vision_cfg=RESNET).visual
    model = Clip(tmp_path / "clip", "grid")
    assert (model.grid, model.dim) == ((2, 2), 8 * 32)
    given = []
    oracle.attnpool.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    oracle(theirs(tmp_path / "clip", photos()))
    features, boxes = described(model)
    torch.testing.assert_close(features, given[0].flatten(2).transpose(1, 2), **CLOSE)
    assert torch.equal(boxes[0, 1, [1, 3]], torch.tensor([0, 0.5]))
    assert torch.equal(boxes[:, 1, 0], boxes[:, 0, 2])


@torch.inference_mode()
def test_a_transformers_patches_equal_open_clips_tokens(tmp_path):
    oracle = random_clip(tmp_path / "clip").visual
    oracle.output_tokens = True
    _, tokens = oracle(theirs(tmp_path / "clip", photos()))
    features, _ = described(Clip(tmp_path / "clip", "grid"))
    torch.testing.assert_close(features, tokens, **CLOSE)


def transformers_clip(model):
    """transformers' CLIP with the weights of one of open_clip's, renamed."""
    vision = {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPVisionConfig(
        **vision, image_size=32, patch_size=16, projection_dim=6, hidden_act="quick_gelu"
    )
    state, names = model.visual.state_dict(), {}
    around = {
        "class_embedding": "embeddings.class_embedding",
        "positional_embedding": "embeddings.position_embedding.weight",
        "conv1.weight": "embeddings.patch_embedding.weight",
    }
    norms = {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm"}
    parts = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    for name, tensor in state.items():
        if name in around:
            names[f"vision_model.{around[name]}"] = tensor
        elif name == "proj":
            names["visual_projection.weight"] = tensor.T
        elif name.split(".")[0] in norms:
            names[f"vision_model.{norms[name.split('.')[0]]}.{name.split('.')[1]}"] = tensor
        else:
            layer, rest = name.removeprefix("transformer.resblocks.").split(".", 1)
            place = f"vision_model.encoder.layers.{layer}"
            if rest.startswith("attn.in_proj_"):
                for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                    names[f"{place}.self_attn.{letter}_proj.{rest.removeprefix('attn.in_proj_')}"] = part
            elif rest.startswith("attn.out_proj"):
                names[f"{place}.self_{rest}"] = tensor
            else:
                part, kind = rest.rsplit(".", 1)
                names[f"{place}.{parts[part]}.{kind}"] = tensor
    oracle = transformers.CLIPVisionModelWithProjection(config).eval()
    missing, unexpected = oracle.load_state_dict(names, strict=False)
    assert not unexpected
    assert all("position_ids" in name for name in missing)
    return oracle


@torch.inference_mode()
def test_both_outputs_equal_those_of_transformers(tmp_path):
    oracle = transformers_clip(random_clip(tmp_path / "clip", quick_gelu=True))
    pixels = theirs(tmp_path / "clip", photos())
    output = oracle(pixel_values=pixels)
    joint, _ = described(Clip(tmp_path / "clip", "joint"))
    torch.testing.assert_close(joint[:, 0], output.image_embeds, **CLOSE)
    patches, _ = described(Clip(tmp_path / "clip", "grid"))
    last = oracle.vision_model.post_layernorm(output.last_hidden_state[:, 1:])
    torch.testing.assert_close(patches, last, **CLOSE)


@pytest.mark.parametrize(
    ("name", "grid", "dim"),
    [
        ("RN50", (7, 7), 2048),
        ("RN101", (7, 7), 2048),
        pytest.param("RN50x4", (9, 9), 2560, marks=pytest.mark.slow),
        ("ViT-B-32", (7, 7), 768),
        pytest.param("ViT-B-16", (14, 14), 768, marks=pytest.mark.slow),
        pytest.param("ViT-L-14", (16, 16), 1024, marks=pytest.mark.slow),
    ],
)
def test_published_towers_have_the_published_grids(tmp_path, name, grid, dim):
    torch.manual_seed(0)
    config = open_clip.get_model_config(name)
    config["text_cfg"]["layers"] = 1  # unused here
    torch.save(open_clip.CLIP(**config).state_dict(), tmp_path / "weights.pt")
    open_clip.factory._MODEL_CONFIGS["of-the-test"] = config
    model = Clip(tmp_path / "weights.pt", "grid", architecture="of-the-test", resize="squash")
    assert (model.grid, model.dim) == (grid, dim)


def test_mismatches_are_one_line_errors(tmp_path):
    random_clip(tmp_path / "clip")
    weights = tmp_path / "clip/open_clip_model.safetensors"
    with pytest.raises(InputError, match=r"a file: set `architecture` to its open_clip name"):
        Clip(weights, "grid")
    with pytest.raises(InputError, match=r"no open_clip_config\.json in it; name the weights file itself"):
        Clip(tmp_path, "grid")
    with pytest.raises(InputError, match="architecture 'ViT-Z': unknown to open_clip"):
        Clip(weights, "grid", architecture="ViT-Z")
    with pytest.raises(InputError, match="missing parameters"):
        Clip(weights, "grid", architecture="RN50")
    entry = CLIPVision(family="clip", output="joint", dim=7, weights={"path": "clip"})
    with pytest.raises(InputError, match=r"backbones\.mine\.dim: 7, but the weights have 6"):
        load("mine", entry, tmp_path / "clip")
    path = tmp_path / "clip/open_clip_config.json"
    path.write_text(path.read_text().replace("shortest", "longest"))
    with pytest.raises(InputError, match=r"resizing to 32 × 32 by 'longest' is unsupported; set resize"):
        Clip(tmp_path / "clip", "grid")
