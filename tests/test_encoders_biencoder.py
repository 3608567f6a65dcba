"""Joint encoders and bi-encoders with T5, BART and BERT."""

import pytest
import torch

from vlret.encoders.bart import Bart, BartConfig
from vlret.encoders.bert import Bert, BertConfig
from vlret.encoders.biencoder import BiEncoder, Tower
from vlret.encoders.t5 import T5, T5Config
from vlret.encoders.tasks import PerTask, activate
from vlret.encoders.visual import VisualEmbedding
from vlret.tuning.prompts import Prompt

VOCABULARY, DIM, LAYERS = 40, 16, 3


def t5():
    return T5(T5Config(VOCABULARY, DIM, 4, 24, LAYERS, 4, num_decoder_layers=2))


def bart():
    return Bart(BartConfig(VOCABULARY, DIM, 24, LAYERS, 4, 32, 24, 2, 4))


def bert():
    return Bert(BertConfig(VOCABULARY, DIM, LAYERS, 4, 24, 32))


@pytest.fixture(params=[t5, bart, bert], ids=lambda build: build.__name__)
def encoder(request):
    torch.manual_seed(0)
    built = request.param()
    built.encoder.visual_embedding = VisualEmbedding(6, DIM, built.visual_norm, order=True)
    return built.eval()


def texts(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(4, VOCABULARY, mask.shape, generator=generator)
    return {"input_ids": ids * mask + (1 - mask), "attention_mask": mask}


def images(count, regions=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(count, regions, 4, generator=generator)
    return {"features": torch.rand(count, regions, 6, generator=generator), "boxes": boxes}


@pytest.mark.parametrize("parts", ["text", "image", "both"])
@pytest.mark.parametrize("pooling", ["avg", "1token", "sum-last-2"])
def test_vectors_do_not_depend_on_the_batch(encoder, parts, pooling):
    if parts != "image":
        encoder.encoder.prompt = Prompt(2, 4, DIM)
    tower, lengths = Tower(encoder, pooling).eval(), [3, 9, 1, 7]
    text = texts(*lengths) if parts != "image" else {}
    image = {**images(4), "visual_mask": torch.tensor([1, 1, 0, 1])[:, None].expand(4, 5)} if parts == "both" else {}
    image = images(4) if parts == "image" else image
    with torch.no_grad():
        together = tower(**text, **image)
        for row, length in enumerate(lengths):
            own = {name: tensor[row : row + 1, :length] for name, tensor in text.items()}
            own |= {name: tensor[row : row + 1] for name, tensor in image.items()}
            torch.testing.assert_close(together[row], tower(**own)[0], atol=2e-6, rtol=1e-5)


def test_requested_layers_end_with_the_last(encoder):
    with torch.no_grad():
        every = encoder(**texts(4, 2), keep=LAYERS).layers
        last = encoder(**texts(4, 2)).layers
    assert len(every) == LAYERS
    assert len(last) == 1
    assert torch.equal(every[-1], last[0])


def test_object_order_matters_only_with_order_embeddings(encoder):
    image = images(1)
    turned = {name: tensor.flip(1) for name, tensor in image.items()}
    with torch.no_grad():
        ordered = [encoder(**inputs).hidden.mean(1) for inputs in (image, turned)]
        encoder.encoder.visual_embedding.img_order_embedding = None
        unordered = [encoder(**inputs).hidden.mean(1) for inputs in (image, turned)]
    assert not torch.allclose(*ordered, atol=1e-3)
    torch.testing.assert_close(*unordered, atol=1e-5, rtol=1e-4)


def test_checkpointing_does_not_change_gradients(encoder):
    def gradients(checkpointing):
        encoder.train().encoder.checkpointing = checkpointing
        encoder.zero_grad()
        torch.manual_seed(3)
        encoder(**texts(5, 2), **images(2)).hidden.square().sum().backward()
        return {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}

    plain, again = gradients(False), gradients(True)
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient)


SHARED = {
    "nothing": set(),
    "visual": {"visual"},
    "token": {"token"},
    "visual+token": {"visual", "token"},
    "everything": {"visual", "token", "rest"},
}


@pytest.mark.parametrize("sharing", SHARED)
def test_shared_parts(encoder, sharing):
    table = encoder.token_embedding + ".weight"
    model = BiEncoder(Tower(encoder, "avg"), sharing, frozenset({f"encoder.{table}"})).eval()
    with torch.no_grad():
        for name, parameter in model.question.named_parameters():
            part = "visual" if "visual_embedding" in name else "token" if name.endswith(table) else "rest"
            before = model.encode("passage", {**texts(4), **images(1)})
            kept = parameter.clone()
            parameter.add_(torch.randn_like(parameter))
            changed = not torch.equal(model.encode("passage", {**texts(4), **images(1)}), before)
            parameter.copy_(kept)
            # The decoder is unused, key biases cancel in the softmax, one token type is unused.
            if not any(unused in name for unused in ("decoder", "k_proj.bias", "key.bias", "relative")):
                assert changed == (part in SHARED[sharing]), name
    published = {"question.encoder." + table}
    if "token" not in SHARED[sharing]:
        published.add("passage.encoder." + table)
    assert model.pretrained == published


def test_the_head_projects_and_normalises(encoder):
    torch.manual_seed(1)
    with torch.no_grad():
        plain = Tower(encoder, "concat-last-2", normalise=False).eval()(**texts(4, 2))
        mapped = Tower(encoder, "concat-last-2", projection=7, normalise=False).eval()
        unit = Tower(encoder, "concat-last-2", projection=7).eval()
        unit.projection = mapped.projection
        torch.testing.assert_close(mapped(**texts(4, 2)), plain @ mapped.projection.weight.T)
        torch.testing.assert_close(unit(**texts(4, 2)).norm(dim=1), torch.ones(2))
    assert mapped.projection.weight.shape == (7, 2 * DIM)


def test_activating_a_task_switches_its_parts():
    model = torch.nn.Sequential(PerTask(["one", "two"]), torch.nn.Linear(2, 2))
    assert model[0].task == "one"
    activate(model, "two")
    assert model[0].task == "two"
    with pytest.raises(ValueError, match="'three': known are one, two"):
        activate(model, "three")
