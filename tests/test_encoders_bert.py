"""The compact BERT against `transformers`' BertModel, and invariances with visual tokens and prompts."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig as PublishedConfig
from transformers import BertModel

from vlret.encoders.biencoder import Tower
from vlret.encoders.published import LAYOUTS, empty_encoder, fill
from vlret.encoders.visual import VisualEmbedding, pool_boxes, pool_grid
from vlret.files import InputError
from vlret.tuning.prompts import Prompt

SIZES = {
    "vocab_size": 50,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
}


def load_bert(folder):
    encoder = empty_encoder(folder, LAYOUTS["bert"], decoder=False)
    fill(Tower(encoder, "avg"), folder, LAYOUTS["bert"])
    return encoder


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    torch.manual_seed(1)
    model = BertModel(PublishedConfig(**SIZES)).eval()
    for parameter in model.parameters():  # no degenerate parameters, such as biases of 0 or norms of 1
        parameter.data += 0.1 * torch.randn_like(parameter)
    folder = tmp_path_factory.mktemp("bert")
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture
def encoder(published):
    return load_bert(published[1]).eval()


def batch(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, SIZES["vocab_size"], (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return ids * mask, mask


def test_equals_transformers(published, encoder):
    ids, mask = batch([9, 4, 1])
    with torch.no_grad():
        expected = published[0](input_ids=ids, attention_mask=mask).last_hidden_state
        encoded = encoder(ids, mask)
    hidden, kept = encoded.hidden, encoded.mask
    assert torch.equal(kept, mask.bool())
    torch.testing.assert_close(hidden[kept], expected[kept], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("damage", ["missing", "unexpected", "misshapen"])
def test_loading_is_strict(published, tmp_path, damage):
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "config.json").write_text((published[1] / "config.json").read_text())
    weights = load_file(published[1] / "model.safetensors")
    name = "encoder.layer.1.output.dense.bias"
    if damage == "missing":
        del weights[name]
    elif damage == "unexpected":
        weights["encoder.layer.9.output.dense.bias"] = weights[name].clone()
    else:
        weights[name] = weights[name][:-1].clone()
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(InputError, match=f"model.safetensors: 1 {damage} parameters, the first encoder.layer"):
        load_bert(folder)


@pytest.fixture
def joint(encoder):
    torch.manual_seed(2)
    encoder.encoder.visual_embedding = VisualEmbedding(10, encoder.dim, pool=((4, 4), (2, 2)))
    encoder.encoder.prompt = Prompt(3, 8, encoder.dim)
    return encoder


def images(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 16, 2, generator=generator)
    boxes = torch.cat([corners / 2, 0.5 + corners / 2], dim=-1)
    return {"features": torch.rand(count, 16, 10, generator=generator), "boxes": boxes}


@pytest.mark.parametrize("pooling", ["avg", "1token"])
@pytest.mark.parametrize("kind", ["text", "joint"])
def test_vectors_do_not_depend_on_the_batch(request, encoder, pooling, kind):
    if kind == "joint":
        encoder = request.getfixturevalue("joint")
    model = Tower(encoder, pooling).eval()
    ids, mask = batch([3, 12, 7, 1])
    visual = {} if kind == "text" else {**images(4), "visual_mask": torch.tensor([[1], [1], [0], [1]]).expand(4, 16)}
    with torch.no_grad():
        together = model(input_ids=ids, attention_mask=mask, **visual)
        for row, length in enumerate([3, 12, 7, 1]):
            own = {name: tensor[row : row + 1] for name, tensor in visual.items()}
            alone = model(input_ids=ids[row : row + 1, :length], attention_mask=mask[row : row + 1, :length], **own)
            torch.testing.assert_close(together[row], alone[0], atol=2e-6, rtol=1e-5)


def test_masked_visual_tokens_are_ignored(joint):
    ids, mask = batch([5, 5])
    one, other = images(2, seed=1), images(2, seed=2)
    hidden = torch.zeros(2, 16, dtype=torch.bool)
    model = Tower(joint, "avg").eval()
    with torch.no_grad():
        vectors = [model(input_ids=ids, attention_mask=mask, visual_mask=hidden, **image) for image in (one, other)]
        seen = model(input_ids=ids, attention_mask=mask, visual_mask=~hidden, **one)
    assert torch.equal(*vectors)
    assert not torch.allclose(vectors[0], seen, atol=1e-3)


def test_grid_pooling_takes_maxima_and_bounding_boxes():
    features = torch.arange(16.0).reshape(1, 16, 1)
    edges = torch.arange(4) / 4
    rows, columns = torch.meshgrid(edges, edges, indexing="ij")
    boxes = torch.stack([columns, rows, columns + 0.25, rows + 0.25], dim=-1).reshape(1, 16, 4)
    assert pool_grid(features, (4, 4), (2, 2)).flatten().tolist() == [5, 7, 13, 15]
    around = pool_boxes(boxes, (4, 4), (2, 2))[0]
    assert around.tolist() == [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]]
