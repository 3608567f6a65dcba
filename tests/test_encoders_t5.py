"""T5 in half precision."""

import pytest
import torch

from vlret.encoders.t5 import T5, T5Config


@pytest.fixture
def overflowing():
    """A T5 whose first feed-forward layer overflows fp16, and an input."""
    torch.manual_seed(0)
    model = T5(T5Config(vocab_size=50, d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4)).eval()
    ids = torch.randint(3, 50, (2, 7))
    layer, seen = model.encoder.block[0].layer[-1].DenseReluDense, []
    layer["wo"].register_forward_hook(lambda module, inputs, output: seen.append(output.abs().max()))
    with torch.no_grad():
        model(ids, torch.ones_like(ids, dtype=torch.bool))
        for name in ("wi", "wo"):
            layer[name].weight *= (100_000 / seen[0]) ** 0.5
    return model, ids, seen


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_feed_forward_outputs_stay_finite(overflowing, kind):
    model, ids, seen = overflowing
    mask = torch.ones_like(ids, dtype=torch.bool)
    with torch.no_grad():
        exact = model(ids, mask).hidden
        with torch.autocast("cpu", kind):
            hidden = model(ids, mask).hidden
    assert seen[-1] > torch.finfo(torch.float16).max
    assert torch.isfinite(hidden).all()
    assert torch.nn.functional.cosine_similarity(hidden.float(), exact, dim=-1).min() > 0.99
