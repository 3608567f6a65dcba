"""Full-size random checkpoints in the published layouts, from file to vector."""

import json
import re

import pytest
import torch
import transformers
from parity import FOLDER
from safetensors.torch import save_file
from test_encoders_vocabulary import full_size_t5
from tiny_encoders import experiment
from torch.nn import functional as F

from vlret.encoders.assemble import assemble
from vlret.files import InputError

pytestmark = pytest.mark.slow

LAYOUTS = json.loads((FOLDER / "layouts" / "vl_state_dict_layouts.json").read_text())
(VLT5,) = (name for name in LAYOUTS if name.startswith("VLT5"))
VLBART = [name for name in LAYOUTS if name.startswith("VLBart")]
REGIONS, WIDTH = 36, 2048


def checkpoint(name, draw, prefix="", vision="encoder."):
    """Every key of a layout with the trainer's names and values `draw(shape)`; tied tensors are shared."""
    layout, weights = LAYOUTS[name], {}
    first = {alias: group[0] for group in layout["tied_groups"] for alias in group}
    for key, shape in layout["keys"].items():
        if first.get(key, key) == key:
            weights[key] = draw(shape)
    return {prefix + renamed(key, vision): weights[first.get(key, key)] for key in layout["keys"]}


def renamed(key, vision):
    return re.sub(r"^(model\.)?encoder\.", rf"\1{vision}", key)


def random():
    generator = torch.Generator().manual_seed(3)
    return lambda shape: torch.randn(shape, generator=generator) * 0.02 + (len(shape) == 1)


def constant(shape):
    """A tensor of one repeated value, so that its file is small."""
    return torch.full((1,), 0.5).expand(shape)


def bart_tokenizer(folder):
    """A tokenizer with as many tokens as bart-base's."""
    words = ["<s>", "<pad>", "</s>", "<unk>", *(f"w{number}" for number in range(50_260)), "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({word: row for row, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """`t5-base` and `bart-base` without their weights: the config and the tokenizer."""
    t5, bart = tmp_path_factory.mktemp("t5-base"), tmp_path_factory.mktemp("bart-base")
    full_size_t5(t5)
    sizes = {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
    transformers.T5Config(vocab_size=32128, d_kv=64, **sizes).save_pretrained(t5)
    bart_tokenizer(bart)
    heads = {"encoder_attention_heads": 12, "decoder_attention_heads": 12}
    layers = {"encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072}
    transformers.BartConfig(vocab_size=50265, d_model=768, **heads, **layers).save_pretrained(bart)
    return {"vlt5": t5, "vlbart": bart}


def settings(layout, norms, pooling="avg", joint=True):
    text = {"architecture": layout.removeprefix("vl"), "separator": "."}
    text |= {"joint": {"path": "there", "layout": layout}} if joint else {}
    visual = {"norms": norms, "order": True}
    return experiment({"kind": "joint", "backbone": "toy", "text": text, "visual": visual}, pooling=pooling)


def inputs(texts=2):
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(4, 30_000, (texts, 9), generator=generator)
    features = torch.rand(texts, REGIONS, WIDTH, generator=generator)
    return {"input_ids": ids, "features": features, "boxes": torch.rand(texts, REGIONS, 4, generator=generator)}


CASES = [
    (VLT5, "vlt5", "each", "module.", "vis_encoder.", "pth"),
    (VLT5, "vlt5", "each", "", "encoder.", "pth"),
    *((name, "vlbart", "sum" if "norm=False" in name else "each", "module.", "encoder.", "pth") for name in VLBART),
    (VLBART[0], "vlbart", "sum", "", "vis_encoder.", "safetensors"),
]


@pytest.mark.parametrize(("name", "layout", "norms", "prefix", "vision", "ending"), CASES)
def test_a_published_joint_encoder_is_loaded_whole(folders, tmp_path, name, layout, norms, prefix, vision, ending):
    stored, path = checkpoint(name, random(), prefix, vision), tmp_path / f"published.{ending}"
    assert len(stored) == LAYOUTS[name]["n_keys"]
    if ending == "pth":
        torch.save(stored, path)
    else:  # safetensors holds a tensor once
        save_file({key: tensor for tensor, key in {tensor: key for key, tensor in stored.items()}.items()}, path)
    model = assemble(settings(layout, norms, "decoder"), {"text": folders[layout], "joint": path}, WIDTH)
    path.unlink()  # a gigabyte
    parameters = dict(model.question.encoder.named_parameters())
    assert sum(p.numel() for p in parameters.values()) == LAYOUTS[name]["n_unique_parameters"]
    assert model.pretrained == {f"question.encoder.{key}" for key in parameters}
    assert len(model.question.encoder.shared.weight) == LAYOUTS[name]["vocab"]
    top = "model." if layout == "vlbart" else ""
    for key, parameter in parameters.items():
        assert torch.equal(parameter, stored[prefix + renamed(top + key, vision)]), key
    with torch.no_grad():
        vectors = model.eval().encode("question", inputs())
    assert vectors.shape == (2, 768)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2))
    assert not torch.allclose(vectors[0], vectors[1])


VISUAL, WO = "encoder.visual_embedding", "encoder.block.11.layer.1.DenseReluDense.wo.weight"
DAMAGES = {
    "missing": (VISUAL + ".img_order_embedding.weight", None, "1 missing parameters, the first {}"),
    "unexpected": (VISUAL + ".layer_norm.weight", [768], "1 unexpected parameters, the first {}"),
    "misshapen": (WO, [768, 3071], "1 misshapen parameters, the first {}: [768, 3071], expected [768, 3072]"),
    "rows": (
        "shared.weight",
        [32100, 768],
        "1 misshapen parameters, the first {}: [32100, 768], expected [32200, 768]",
    ),
    "head": ("lm_head.weight", [32200, 768], "{}: differs from shared.weight, though it should be a copy"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_wrong_published_file_is_rejected(folders, tmp_path, damage):
    name, shape, message = DAMAGES[damage]
    stored, path = checkpoint(VLT5, constant), tmp_path / "VLT5Epoch30.pth"
    if damage == "rows":
        for tied in LAYOUTS[VLT5]["tied_groups"][0]:
            stored[tied] = constant(shape)
    elif shape is None:
        del stored[name]
    else:
        stored[name] = constant(shape) + 1 if damage == "head" else constant(shape)
    torch.save(stored, path)
    with pytest.raises(InputError, match=re.escape(f"VLT5Epoch30.pth: {message.format(name)}")):
        assemble(settings("vlt5", "each"), {"text": folders["vlt5"], "joint": path}, WIDTH)


def test_a_visual_embedding_with_other_norms_is_rejected(folders, tmp_path):
    path = tmp_path / "VLT5Epoch30.pth"
    torch.save(checkpoint(VLT5, constant), path)
    with pytest.raises(InputError, match=r"1 missing parameters, the first encoder\.visual_embedding\.layer_norm"):
        assemble(settings("vlt5", "sum"), {"text": folders["vlt5"], "joint": path}, WIDTH)


def test_a_text_model_is_no_joint_encoder(folders, tmp_path):
    path = tmp_path / "t5.pth"
    torch.save({key: t for key, t in checkpoint(VLT5, constant).items() if "visual" not in key}, path)
    with pytest.raises(InputError, match=r"t5\.pth: 7 missing parameters, the first encoder\.visual_embedding"):
        assemble(settings("vlt5", "each"), {"text": folders["vlt5"], "joint": path}, WIDTH)


def test_full_size_t5_base_equals_transformers_and_gets_object_rows(folders, tmp_path):
    torch.manual_seed(0)
    config = transformers.T5Config.from_pretrained(folders["vlt5"])
    model = transformers.T5ForConditionalGeneration(config).eval()
    model.save_pretrained(tmp_path)
    full_size_t5(tmp_path)
    ours = assemble(settings("vlt5", "each", joint=False), {"text": tmp_path}, WIDTH).eval()
    (tmp_path / "model.safetensors").unlink()
    table = ours.question.encoder.shared.weight
    assert len(table) == 32_200
    assert torch.equal(table[:32_128], model.shared.weight)
    ids = inputs()["input_ids"]
    with torch.no_grad():
        theirs = model.encoder(ids).last_hidden_state
        hidden = ours.question.encoder(ids).hidden
        vectors = ours.encode("passage", {"input_ids": ids})
    torch.testing.assert_close(hidden, theirs, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(vectors, F.normalize(theirs.mean(dim=1), dim=-1), atol=2e-5, rtol=1e-4)
    own = {name for name, _ in ours.named_parameters()} - ours.pretrained
    assert own == {name for name, _ in ours.named_parameters() if "visual_embedding" in name}
