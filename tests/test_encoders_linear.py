"""The linear layer through oneDNN equals torch's."""

import pytest
import torch

from vlret.encoders.linear import Linear


@pytest.mark.parametrize("shape", [(700, 70), (3, 5, 70), (1, 70), (0, 70), (70,)])
@pytest.mark.parametrize("bias", [True, False])
def test_value_and_gradient_equal_torchs(shape, bias):
    torch.manual_seed(0)
    layer, hidden = Linear(70, 33, bias=bias), torch.randn(shape, requires_grad=True)
    expected = torch.nn.functional.linear(hidden, layer.weight, layer.bias)
    upstream = torch.randn_like(expected)
    parts = [hidden, *layer.parameters()]
    gradients = torch.autograd.grad((expected * upstream).sum(), parts)
    given = layer(hidden)
    assert given.shape == expected.shape
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-5)
    for one, other in zip(torch.autograd.grad((given * upstream).sum(), parts), gradients, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-4)


def test_frozen_weights_get_no_gradient():
    layer, hidden = Linear(6, 5).requires_grad_(False), torch.randn(3, 6, requires_grad=True)
    layer(hidden).sum().backward()
    torch.testing.assert_close(hidden.grad, layer.weight.sum(dim=0).expand(3, -1))
    assert layer.weight.grad is None
    assert layer.bias.grad is None


def test_a_linear_layer_in_other_precisions():
    layer, hidden = Linear(8, 4), torch.randn(3, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(hidden).dtype == torch.bfloat16
    assert layer.double()(hidden.double()).dtype == torch.float64


@pytest.mark.parametrize("shape", [(700, 70), (3, 5, 70), (1, 1, 70)])
def test_the_product_may_be_changed_in_place(shape):
    torch.manual_seed(0)
    layer, hidden = Linear(70, 33, bias=False), torch.randn(shape, requires_grad=True)
    expected = torch.autograd.grad(torch.relu(layer(hidden)).sum(), hidden)
    assert torch.equal(*torch.autograd.grad(torch.relu_(layer(hidden)).sum(), hidden), *expected)
