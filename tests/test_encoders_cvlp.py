"""The bi-encoder against stored outputs of cvlp: layout, encoder, poolings and head."""

import json

import numpy as np
import pytest
import torch
from parity import arrays, cases
from torch import nn
from torch.nn import functional as F

from vlret.encoders.biencoder import Tower
from vlret.encoders.joint import AdapterSlot, Encoded
from vlret.encoders.pooling import POOLINGS
from vlret.encoders.published import LAYOUTS, fill
from vlret.encoders.t5 import T5, T5Config
from vlret.encoders.visual import VisualEmbedding, pool_boxes, pool_grid
from vlret.files import InputError

pytestmark = pytest.mark.parity

TOLERANCE = {"atol": 2e-5, "rtol": 1e-4}
ENCODERS, DOWNSAMPLES = cases("cvlp", "encoder_*"), cases("cvlp", "downsample*")
HEADS = cases("cvlp", "losses_pooling_metrics*")
# cvlp's mean includes padding.
POOLED = {"pooled_1token": "1token", "pooled_avg": "avg-all"}


class Adapters(nn.Module):
    """cvlp's adapter with cvlp's names, to test only the layout here and not the tuning methods."""

    def __init__(self, task, dim, factor):
        super().__init__()
        down, up = nn.Linear(dim, dim // factor), nn.Linear(dim // factor, dim)
        self.adapters = nn.ModuleDict({task: nn.ModuleDict({"down_sampler": down, "up_sampler": up})})

    def forward(self, hidden):
        (adapter,) = self.adapters.values()
        inner = F.gelu(adapter["down_sampler"](hidden), approximate="tanh")
        return hidden + adapter["up_sampler"](inner)


class Prompts(nn.Module):
    """cvlp's prompts with cvlp's names."""

    def __init__(self, task, tokens, dim, hidden):
        super().__init__()
        layers = [nn.Embedding(tokens, dim), nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, dim)]
        self.prompts = nn.ModuleDict({task: nn.ModuleDict({"prefix_embedding": nn.Sequential(*layers)})})

    def forward(self):
        (prompts,) = self.prompts.values()
        table, *layers = prompts["prefix_embedding"]
        return nn.Sequential(*layers)(table.weight)


class Hidden(nn.Module):
    """An encoder that returns given hidden states."""

    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, hidden, keep=1):
        return Encoded((hidden,), torch.ones(hidden.shape[:2], dtype=torch.bool), slice(0, hidden.shape[1]))


def norms_of(config):
    if not config["use_vis_layer_norm"]:
        return "none"
    return "each" if config["individual_vis_layer_norm"] else "sum"


def tower_of(path, pooling):
    """The tower that a case describes, filled from its file."""
    case = json.loads(path.read_text())
    config = case["config"]
    task = case["semantics"]["task"].strip("'")
    sizes = {name: config[name] for name in T5Config.__dataclass_fields__ if name in config}
    encoder = T5(T5Config(**sizes))
    stack, dim = encoder.encoder, encoder.dim
    norms, order = norms_of(config), config["use_vis_order_embedding"]
    visual = VisualEmbedding(config["feat_dim"], dim, encoder.visual_norm, norms, order, config["n_images"])
    stack.visual_embedding = visual
    if config["use_adapter"]:
        for block in stack.block:
            for layer in block.layer:
                (slot,) = (name for name, part in layer.named_children() if isinstance(part, AdapterSlot))
                setattr(layer, slot, Adapters(task, dim, config["reduction_factor"]))
    if config["encoder_prompt_len"]:
        stack.prompt = Prompts(task, config["encoder_prompt_len"], dim, config["mid_dim"])
    projection = config["dim_projectionHead"] if config["add_projectionHead"] else None
    tower = Tower(encoder, pooling, projection, normalise=projection is not None).eval()
    filled = fill(tower, path.with_name(case["weights_file"]), LAYOUTS["cvlp"])
    assert filled == dict(tower.named_parameters()).keys()
    return tower


def calls(stored):
    """The inputs of each call: text and vision, with more padding, or only one of them."""
    text = {"input_ids": stored["input_ids"], "attention_mask": stored["attention_mask"]}
    vision = {"features": stored["vis_feats"], "boxes": stored["boxes"]}
    given = {"out_both": {**text, **vision}, "out_text": text, "out_vis": vision}
    for name, ids in stored.items():
        if name.startswith("input_ids_padded"):
            more = ids.shape[1] - stored["input_ids"].shape[1]
            mask = np.pad(stored["attention_mask"], ((0, 0), (0, more)))
            given[name.replace("input_ids", "out_both")] = {"input_ids": ids, "attention_mask": mask, **vision}
    return {name: {key: torch.from_numpy(value) for key, value in inputs.items()} for name, inputs in given.items()}


@pytest.mark.parametrize("path", ENCODERS, ids=lambda path: path.stem)
def test_hidden_states_and_vectors_equal_cvlps(path):
    stored, compared = arrays(path), set()
    towers = {name: tower_of(path, pooling) for name, pooling in POOLED.items()}
    with torch.no_grad():
        for call, inputs in calls(stored).items():
            hidden = towers["pooled_avg"].encoder(**inputs).hidden
            outputs = {"last_hidden_state": hidden} | {name: tower(**inputs) for name, tower in towers.items()}
            for name, output in outputs.items():
                compared.add(f"{call}.{name}")
                torch.testing.assert_close(output, torch.from_numpy(stored[f"{call}.{name}"]), **TOLERANCE)
    assert compared == {name for name in stored if name.startswith("out_")}


@pytest.mark.parametrize("path", ENCODERS, ids=lambda path: path.stem)
def test_a_tower_without_one_part_rejects_the_file(path):
    tower = tower_of(path, "avg")
    tower.encoder.encoder.visual_embedding.img_order_embedding = None
    file = path.with_suffix(".safetensors")
    with pytest.raises(InputError, match=r"1 unexpected parameters, the first encoder\.visual_embedding\.img_order"):
        fill(tower, file, LAYOUTS["cvlp"])


@pytest.mark.parametrize("path", HEADS, ids=lambda path: path.stem)
def test_poolings_and_the_head_equal_cvlps(path):
    stored = {name: torch.from_numpy(array) for name, array in arrays(path).items()}
    hidden = stored["pool.hidden"]
    encoded = Hidden(hidden.shape[-1])(hidden)
    for name, pooling in (("pool.1token", "1token"), ("pool.avg", "avg-all")):
        torch.testing.assert_close(POOLINGS[pooling].apply(None, encoded), stored[name], **TOLERANCE)
    width, dim = stored["proj.weight"].shape
    tower = Tower(Hidden(dim), "1token", projection=width)
    tower.projection.weight.data.copy_(stored["proj.weight"])
    with torch.no_grad():
        projected = tower(hidden=stored["proj.x"].unsqueeze(1))
    torch.testing.assert_close(projected, stored["proj.out"], **TOLERANCE)


# cvlp's other token reductions, which no published model uses: one-dimensional pooling, random sampling in training,
# two images in one sequence (pooled separately).
ABSENT = ("OneDDownsample", "sparse.", "pair.")


@pytest.mark.parametrize("path", DOWNSAMPLES, ids=lambda path: path.stem)
def test_grid_pooling_equals_cvlps_except_for_the_boxes(path):
    stored = {name: torch.from_numpy(array) for name, array in arrays(path).items()}
    side, compared = round(stored["feats"].shape[1] ** 0.5), set()
    grid = (side, side)
    for name in stored:
        if name.startswith("Downsample_") and name.endswith(".feats"):
            tokens = tuple(map(int, name.removeprefix("Downsample_").removesuffix(".feats").split("x")))
            assert torch.equal(pool_grid(stored["feats"], grid, tokens), stored[name])
            # cvlp keeps the first boxes, which belong to other cells; ours bound the pooled cells.
            boxes = stored[name.replace("feats", "boxes")]
            assert torch.equal(boxes, stored["boxes"][:, : tokens[0] * tokens[1]])
            assert not torch.allclose(pool_boxes(stored["boxes"], grid, tokens), boxes)
            compared |= {name, name.replace("feats", "boxes")}
    assert compared
    rest = stored.keys() - compared - {"feats", "boxes"}
    assert all(name.startswith(ABSENT) for name in rest)
