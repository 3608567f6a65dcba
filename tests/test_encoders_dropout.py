"""Dropout and attention on a CPU: the distribution, the seed and the gradients of torch's; precision by the machine."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vlret.encoders import precision
from vlret.encoders.dropout import Dropout, attention, dropout, rounded
from vlret.encoders.precision import autocast, chosen, round_linear
from vlret.files import InputError

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_elements_are_dropped_with_their_probability_and_the_others_scaled(dtype, p):
    torch.manual_seed(0)
    hidden = torch.ones(300, 401, dtype=dtype, requires_grad=True)
    dropped = dropout(hidden, p, training=True)
    assert dropped.dtype == dtype
    zeros = (dropped == 0).float()
    assert float(zeros.mean()) == pytest.approx(p, abs=0.005)
    assert float(zeros.mean(dim=0).std()) == pytest.approx((p * (1 - p) / 300) ** 0.5, rel=0.2), "independent"
    torch.testing.assert_close(dropped[dropped != 0].float().mean(), torch.tensor(1 / (1 - p)), rtol=5e-3, atol=0)
    dropped.sum().backward()
    torch.testing.assert_close(hidden.grad, dropped.detach())


def test_the_seed_decides_and_without_training_nothing_is_dropped():
    hidden, module = torch.randn(7, 9), Dropout(0.5)
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn += [module(hidden), module(hidden)]
    assert torch.equal(drawn[0], drawn[2])
    assert torch.equal(drawn[1], drawn[3])
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[4])
    assert torch.equal(module.eval()(hidden), hidden)


@pytest.mark.parametrize("scale", [None, 1.0])
def test_attention_with_dropout_is_right_on_average(scale):
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 4) for _ in range(3))
    bias = torch.randn(1, 3, 5, 5)
    bias[..., -1] = -10000
    expected = F.scaled_dot_product_attention(query, key, value, bias, scale=scale)
    torch.testing.assert_close(attention(query, key, value, bias, scale=scale), expected)
    mean = torch.stack([attention(query, key, value, bias, 0.1, scale=scale) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(mean, expected, atol=0.04, rtol=0)


def test_inputs_are_rounded_only_under_autocast():
    hidden = torch.randn(2, 3)
    assert rounded(hidden) is hidden
    with autocast("bf16", CPU):
        assert rounded(hidden).dtype == torch.bfloat16


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_bf16_where_it_is_native(monkeypatch, native):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: native)
    assert chosen("auto", CPU, "x") == ("bf16" if native else "fp32")
    assert chosen("bf16", CPU, "x") == "bf16"
    with pytest.raises(InputError, match=r"^training\.precision: fp16 needs a GPU; use bf16 or fp32$"):
        chosen("fp16", CPU, "training.precision")


def test_only_the_asked_linear_maps_are_rounded():
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3), "c": nn.LayerNorm(3), "d": nn.Embedding(2, 3)})
    round_linear(model, "fp32", lambda name: True)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    round_linear(model, "bf16", lambda name: name != "b.bias")
    rounded_ = {name for name, parameter in model.named_parameters() if parameter.dtype == torch.bfloat16}
    assert rounded_ == {"a.weight", "a.bias", "b.weight"}
