"""What the parts added by tuning methods compute, share and start from."""

import math
from functools import partial

import pytest
import torch
from tiny_encoders import batch, tuned, untuned
from torch import nn
from torch.nn import functional as F

from vlret.encoders.joint import AdapterSlot
from vlret.tuning.adapters import Adapter, Bottleneck
from vlret.tuning.compacter import HyperComplexLinear, LowRankLinear, new_rule
from vlret.tuning.prompts import Prompt


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def gelu(x):
    return 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))


@pytest.mark.parametrize("norms", ["none", "pre", "post", "both"])
def test_an_adapter_is_a_residual_bottleneck(norms):
    adapter = Adapter(["a"], partial(Bottleneck, 8, 4, nn.Linear), 8, "single", norms)
    for parameter in adapter.parameters():
        parameter.data.normal_()
    hidden, part = torch.randn(3, 5, 8), adapter.adapters["a"]
    inner = adapter.pre_layer_norm(hidden) if norms in ("pre", "both") else hidden
    inner = gelu(inner @ part.down_sampler.weight.T + part.down_sampler.bias)
    inner = inner @ part.up_sampler.weight.T + part.up_sampler.bias
    expected = hidden + (adapter.post_layer_norm(inner) if norms in ("post", "both") else inner)
    assert part.down_sampler.weight.shape == (2, 8)
    assert sum(isinstance(m, nn.LayerNorm) for m in adapter.modules()) == {"none": 0, "both": 2}.get(norms, 1)
    torch.testing.assert_close(adapter(hidden), expected)


@pytest.mark.parametrize(
    ("sharing", "downs", "ups"),
    [("single", "a", "a"), ("multiple", "abc", "abc"), ("down", "a", "abc"), ("up", "abc", "a")],
)
def test_tasks_share_what_is_configured(sharing, downs, ups):
    adapter = Adapter(["a", "b", "c"], partial(Bottleneck, 8, 4, nn.Linear), 8, sharing, "none")
    hidden, parts = torch.randn(3, 8), adapter.adapters
    for way, owners in (("down", downs), ("up", ups)):
        assert {task for task in parts if getattr(parts[task], f"{way}_sampler") is not None} == set(owners)
    for task in "abc":
        adapter.activate(task)
        down, up = (parts[task if task in owners else "a"] for owners in (downs, ups))
        expected = hidden + up.up_sampler(gelu(down.down_sampler(hidden)))
        torch.testing.assert_close(adapter(hidden), expected)


@pytest.mark.parametrize("rank", [None, 2])
def test_a_hyper_complex_projection_is_a_sum_of_kronecker_products(rank):
    linear = HyperComplexLinear(12, 6, 3, rank, None)
    for parameter in linear.parameters():
        parameter.data.normal_()
    matrices = (
        linear.W if rank is None else [left @ right for left, right in zip(linear.W_left, linear.W_right, strict=True)]
    )
    whole = sum(torch.kron(rule, matrix) for rule, matrix in zip(linear.phm_rule, matrices, strict=True))
    hidden = torch.randn(2, 5, 12)
    assert linear.phm_rule.shape == (3, 3, 3)
    torch.testing.assert_close(linear(hidden), hidden @ whole + linear.b)


def test_a_low_rank_projection_is_two_matrices():
    linear = LowRankLinear(8, 6, 2)
    linear.b.data.normal_()
    hidden = torch.randn(2, 5, 8)
    assert linear.W_left.shape == (8, 2)
    torch.testing.assert_close(linear(hidden), hidden @ linear.W_left @ linear.W_right + linear.b)


def test_compacters_share_a_rule_or_own_one_each():
    for kind in ("bert", "t5"):
        rules = [
            name
            for name, _ in tuned("compacter", kind, settings={"rule": "shared"}).named_parameters()
            if "phm_rule" in name
        ]
        assert rules == ["question.encoder.phm_rule"]
    places = sum(isinstance(module, AdapterSlot) for module in untuned().modules())
    rules = [name for name, _ in tuned("compacter").named_parameters() if "phm_rule" in name]
    assert len(rules) == 2 * places


def test_prompts_are_reparametrised_vectors():
    prompt = Prompt(tokens=3, hidden=6, dim=8)
    embedding, first, _, last = prompt.prefix_embedding
    expected = torch.tanh(embedding.weight @ first.weight.T + first.bias) @ last.weight.T + last.bias
    torch.testing.assert_close(prompt(), expected)


def test_prompts_precede_the_text_and_are_not_masked():
    encoder = tuned("prompt").question.encoder
    encoded = encoder(**batch())
    assert encoded.hidden.shape == (3, 3 + 5 + 4, 16)
    assert encoded.mask[0].tolist() == [True] * 6 + [False] * 2 + [True] * 4


@pytest.mark.parametrize("kind", ["unique", "one"])
def test_a_hyperformer_generates_adapters_from_task_layer_and_sublayer(kind):
    encoder = tuned("hyperformer", tasks=("a", "b"), settings={"kind": kind}).question.encoder
    for parameter in encoder.parameters():
        parameter.data.normal_()
    attention, output = encoder.encoder.layer[1].attention.output.adapter, encoder.encoder.layer[1].output.adapter
    network, hidden = encoder.encoder.adapter_layers_hyper_net, torch.randn(2, 5, 16)
    generators, task = dict(network.named_modules()), encoder.shared_task_embed.task_to_embeddings["a"]
    for row, name, adapter in ((1, "self_attention_", attention), (0, "feed_forward_", output)):
        parts = [task, network.layer_id_embeddings.weight[1]]
        if kind == "one":
            parts, name = [*parts, network.adapters_block_type.weight[row]], ""
        first, _, last = network.task_hypernet["task_embeding_generator"]
        embedding = network.LayerNorm(last(torch.relu(first(torch.cat(parts)))))
        made = {}
        for way, shape in (("down", (4, 16)), ("up", (16, 4))):
            generator = generators[f"{name}{way}_sampler_hyper_net"]
            made[way] = generator.weight_generator(embedding).view(shape), generator.bias_generator(embedding)
        expected = hidden + F.linear(gelu(F.linear(hidden, *made["down"])), *made["up"])
        torch.testing.assert_close(adapter(hidden), expected)


@pytest.mark.parametrize("kind", ["bert", "t5", "bart"])
@pytest.mark.parametrize("method", ["lora", "ia3"])
def test_lora_and_ia3_start_as_the_identity(method, kind):
    plain, model = tuned("zs", kind), tuned(method, kind)
    with torch.no_grad():
        encoded, changed = (m.question.encoder(**batch()) for m in (plain, model))
        torch.testing.assert_close(changed.hidden, encoded.hidden)
        if plain.question.encoder.decoder is not None:
            decoded = [m.question.encoder.decode(e) for m, e in ((plain, encoded), (model, changed))]
            torch.testing.assert_close(*decoded)


def test_lora_adds_a_scaled_product_and_ia3_scales():
    hidden = torch.randn(2, 5, 16)
    lora = tuned("lora").question.encoder.encoder.layer[0].attention.self["query"]
    down, up = lora.lora_A["viquae"].weight, lora.lora_B["viquae"].weight
    up.data.normal_()
    torch.testing.assert_close(lora(hidden), lora.base_layer(hidden) + 4 / 2 * hidden @ down.T @ up.T)
    layer = tuned("ia3").question.encoder.encoder.layer[0]
    key, output = layer.attention.self["key"], layer.output.dense
    for part, width in ((key, 16), (output, 24)):
        scale, inputs = part.ia3_l["viquae"], torch.randn(2, width)
        scale.data.normal_()
        before, after = (1, scale.flatten()) if part is key else (scale.flatten(), 1)
        torch.testing.assert_close(part(inputs), part.base_layer(inputs * before) * after)
    assert not hasattr(layer.attention.output.dense, "ia3_l")


def test_added_parts_are_initialised_as_in_the_originals():
    wide = {"settings": {"reduction_factor": 1}}
    bart = tuned("adapter", "bart", **wide).question.encoder.encoder.layers[0].ff_adapter.adapters["viquae"]
    assert 0.015 < bart.down_sampler.weight.std() < 0.025
    assert not bart.down_sampler.bias.any()
    t5 = tuned("adapter", "t5", **wide).question.encoder.encoder.block[0].layer[1].ff_adapter.adapters["viquae"]
    assert 0.9 / 4 < t5.down_sampler.weight.abs().max() <= 1 / 4  # PyTorch's: uniform within 1 / sqrt(16)
    assert t5.down_sampler.bias.any()
    for kind, generated, embedded in (("t5", 0.01, 1.0), ("bart", 0.02, 0.02)):
        network = tuned(
            "hyperformer", kind, settings={"task_embedding": 64}
        ).question.encoder.encoder.adapter_layers_hyper_net
        generator = network.feed_forward_up_sampler_hyper_net.weight_generator[0]
        assert generator.weight.std().item() == pytest.approx(generated, rel=0.15)
        assert network.layer_id_embeddings.weight.std().item() == pytest.approx(embedded, rel=0.15)
    limit = math.sqrt(2) * math.sqrt(6 / (8 + 2))
    weight = tuned("compacter").question.encoder.encoder.layer[0].output.adapter.adapters["viquae"].down_sampler.W
    assert 0.85 * limit < weight.abs().max() <= limit
    assert new_rule(16).std().item() == pytest.approx(0.01, rel=0.05)
