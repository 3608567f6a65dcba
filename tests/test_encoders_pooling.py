"""Each pooling against a direct computation."""

import pytest
import torch
from torch import nn

from vlret.encoders.joint import Encoded
from vlret.encoders.pooling import POOLINGS, pooling_of
from vlret.files import InputError

PROMPTS, TEXT, REGIONS, DIM, LAYERS = 2, 4, 3, 5, 4


@pytest.fixture(scope="module")
def encoded():
    """Two units: two prompts, texts of 4 and 2 tokens, three regions (none for the second unit)."""
    generator = torch.Generator().manual_seed(0)
    layers = tuple(torch.rand(2, PROMPTS + TEXT + REGIONS, DIM, generator=generator) for _ in range(LAYERS))
    mask = torch.tensor([[1] * 9, [1, 1, 1, 1, 0, 0, 0, 0, 0]]).bool()
    return Encoded(layers, mask, slice(PROMPTS, PROMPTS + TEXT))


def pooled(name, encoded, encoder=None):
    pooling = pooling_of(name)
    return pooling.apply(encoder, Encoded(encoded.layers[-pooling.layers :], encoded.mask, encoded.text))


def test_positions_and_means(encoded):
    hidden = encoded.hidden
    assert torch.equal(pooled("1token", encoded), hidden[:, 0])
    torch.testing.assert_close(pooled("avg", encoded), torch.stack([hidden[0].mean(0), hidden[1, :4].mean(0)]))
    torch.testing.assert_close(pooled("avg-all", encoded), hidden.mean(1))


def test_eos_is_the_last_text_token(encoded):
    assert torch.equal(pooled("eos", encoded), torch.stack([encoded.hidden[0, 5], encoded.hidden[1, 3]]))


def test_eos_needs_text(encoded):
    image = Encoded(encoded.layers, encoded.mask, slice(0, 0))
    with pytest.raises(ValueError, match="no text"):
        pooled("eos", image)


def test_last_layers_are_summed_or_concatenated_then_averaged(encoded):
    means = [torch.stack([layer[0].mean(0), layer[1, :4].mean(0)]) for layer in encoded.layers]
    torch.testing.assert_close(pooled("sum-last-3", encoded), means[1] + means[2] + means[3])
    torch.testing.assert_close(pooled("concat-last-2", encoded), torch.cat(means[2:], dim=1))
    assert pooling_of("concat-last-2").width == 2
    assert pooling_of("sum-last-3").width == 1


def test_decoder_pooling_takes_the_first_position(encoded):
    class Encoder(nn.Module):
        def decode(self, encoded):
            return encoded.hidden + 1

    assert torch.equal(pooled("decoder", encoded, Encoder()), encoded.hidden[:, 0] + 1)


def test_concatenation_needs_every_position(encoded):
    whole, part = pooled("concat", encoded)
    assert torch.equal(whole, encoded.hidden[0].flatten())
    assert part.isnan().any()


@pytest.mark.parametrize("name", ["mean", "sum-last-0", "sum-last-", "concat-last-x"])
def test_an_unknown_pooling_lists_the_known(name):
    with pytest.raises(InputError, match=f"pooling '{name}': known are {', '.join(POOLINGS)}"):
        pooling_of(name)
