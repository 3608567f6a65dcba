"""What each tuning method adds and trains, on a tiny joint encoder."""

import pytest
import torch

from vlret.encoders.bert import Bert, BertConfig
from vlret.encoders.biencoder import BiEncoder, Tower
from vlret.encoders.visual import VisualEmbedding
from vlret.tuning.adapters import Adapter
from vlret.tuning.methods import METHODS, tune
from vlret.tuning.prompts import Prompt

SETTINGS = {"prompt": {"tokens": 3, "hidden": 6}, "adapter": {"reduction_factor": 4}}
VISUAL = {
    "encoder.visual_embedding.feat_embedding.0.weight",
    "encoder.visual_embedding.feat_embedding.0.bias",
    "encoder.visual_embedding.feat_embedding.1.weight",
    "encoder.visual_embedding.feat_embedding.1.bias",
    "encoder.visual_embedding.absolute_vis_pos_embedding.0.weight",
    "encoder.visual_embedding.absolute_vis_pos_embedding.0.bias",
    "encoder.visual_embedding.absolute_vis_pos_embedding.1.weight",
    "encoder.visual_embedding.absolute_vis_pos_embedding.1.bias",
}
PLACES = [f"encoder.layer.{layer}.{half}.adapter" for layer in (0, 1) for half in ("attention.output", "output")]
ADDED = {
    "zs": set(),
    "visual": set(),
    "prompt": {"encoder.prompt.embedding.weight"}
    | {f"encoder.prompt.project.{i}.{p}" for i in (0, 2) for p in ("weight", "bias")},
    "adapter": {f"{at}.{way}_sampler.{p}" for at in PLACES for way in ("down", "up") for p in ("weight", "bias")},
    "full": set(),
}


def joint():
    torch.manual_seed(0)
    encoder = Bert(BertConfig(30, 16, 2, 2, 24, 16))
    encoder.encoder.visual_embedding = VisualEmbedding(5, 16, pool=((2, 2), (1, 1)))
    return encoder


@pytest.mark.parametrize("method", METHODS)
def test_exactly_what_a_method_trains(method):
    encoder = joint()
    before = {name for name, _ in encoder.named_parameters()}
    tune(BiEncoder(Tower(encoder, "avg")), {"method": method, **SETTINGS.get(method, {})})
    after = dict(encoder.named_parameters())
    assert after.keys() - before == ADDED[method]
    trained = {name for name, parameter in after.items() if parameter.requires_grad}
    expected = {"zs": set(), "full": set(after)}.get(method, VISUAL | ADDED[method])
    assert trained == expected


def test_an_adapter_is_a_residual_bottleneck():
    torch.manual_seed(0)
    adapter = Adapter(8, 4)
    hidden = torch.randn(3, 5, 8)
    inner = hidden @ adapter.down_sampler.weight.T + adapter.down_sampler.bias
    gelu = 0.5 * inner * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (inner + 0.044715 * inner**3)))
    expected = hidden + gelu @ adapter.up_sampler.weight.T + adapter.up_sampler.bias
    assert adapter.down_sampler.weight.shape == (2, 8)
    torch.testing.assert_close(adapter(hidden), expected)


def test_prompts_are_reparametrised_vectors():
    torch.manual_seed(0)
    prompt = Prompt(tokens=3, hidden=6, dim=8)
    first, _, last = prompt.project
    expected = torch.tanh(prompt.embedding.weight @ first.weight.T + first.bias) @ last.weight.T + last.bias
    torch.testing.assert_close(prompt(), expected)


def test_prompts_stand_before_the_text_and_are_kept():
    encoder = joint()
    tune(BiEncoder(Tower(encoder, "avg")), {"method": "prompt", **SETTINGS["prompt"]})
    ids, mask = torch.tensor([[1, 2, 0]]), torch.tensor([[1, 1, 0]])
    visual = {"features": torch.rand(1, 4, 5), "boxes": torch.rand(1, 4, 4), "visual_mask": torch.ones(1, 4)}
    encoded = encoder(ids, mask, **visual)
    assert encoded.hidden.shape == (1, 3 + 3 + 1, 16)
    assert encoded.mask.tolist() == [[True, True, True, True, True, False, True]]


@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_holds_what_was_trained_or_is_nowhere_else(method):
    encoder = joint()
    pretrained = frozenset(f"encoder.{name}" for name, _ in Bert(encoder.config).named_parameters())
    model = BiEncoder(Tower(encoder, "avg"), pretrained=pretrained)
    tune(model, {"method": method, **SETTINGS.get(method, {})})
    own = model.own_weights()
    everything = {f"question.encoder.{name}" for name, _ in encoder.named_parameters()}
    expected = everything if method == "full" else {f"question.encoder.{name}" for name in VISUAL | ADDED[method]}
    assert own.keys() == expected
