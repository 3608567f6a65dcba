"""Tiny random VL-T5 and VL-BART in the published format: a text folder and a joint checkpoint."""

import json
import shutil
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer

from vlret.encoders.bart import Bart, BartConfig
from vlret.encoders.t5 import T5, T5Config
from vlret.encoders.visual import VisualEmbedding

TOY = Path(__file__).parent / "fixtures" / "parity" / "tokenizer" / "toy_spiece.model"
EXTRA = 200  # <extra_id_k> and <vis_extra_id_k>, 100 each
T5_SIZES = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4}
BART_SIZES = {
    "d_model": 32,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "max_position_embeddings": 64,
}


def vlt5(folder: Path, feature_dim: int) -> dict:
    """Write a VL-T5 to `folder` and return its model entry."""
    folder.mkdir(parents=True)
    shutil.copy(TOY, folder / "spiece.model")
    pieces = 85
    (folder / "config.json").write_text(json.dumps({"model_type": "t5", "vocab_size": pieces + 100, **T5_SIZES}))
    torch.manual_seed(0)
    model = T5(T5Config(pieces + EXTRA, **T5_SIZES))
    model.encoder.visual_embedding = VisualEmbedding(feature_dim, 32, T5.visual_norm, "each", order=True)
    copies = ["encoder.embed_tokens", "encoder.visual_embedding.obj_order_embedding", "decoder.embed_tokens", "lm_head"]
    return entry("t5", "vlt5", folder, model, "", copies, {"norms": "each", "order": True})


def vlbart(folder: Path, feature_dim: int) -> dict:
    """Write a VL-BART to `folder` and return its model entry."""
    folder.mkdir(parents=True)
    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(["which country is this the flag of?"], vocab_size=300, special_tokens=special)
    tokenizer.save_model(str(folder))
    words = tokenizer.get_vocab_size()
    (folder / "config.json").write_text(json.dumps({"model_type": "bart", "vocab_size": words, **BART_SIZES}))
    torch.manual_seed(0)
    model = Bart(BartConfig(words + EXTRA, **BART_SIZES))
    model.encoder.visual_embedding = VisualEmbedding(feature_dim, 32, Bart.visual_norm, "sum", order=True)
    copies = ["encoder.embed_tokens", "encoder.visual_embedding.obj_order_embedding", "decoder.embed_tokens"]
    described = entry("bart", "vlbart", folder, model, "model.", copies, {"norms": "sum", "order": True})
    return described


def entry(architecture, layout, folder, model, prefix, copies, visual):
    """Save the joint checkpoint of `model` with DDP's names, and return the model entry."""
    state = {f"module.{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    for name in copies:
        state[f"module.{prefix}{name}.weight"] = model.shared.weight
    if layout == "vlbart":
        state["module.lm_head.weight"] = model.shared.weight
        state["module.final_logits_bias"] = torch.zeros(1, len(model.shared.weight))
    checkpoint = folder.with_suffix(".pth")
    torch.save(state, checkpoint)
    text = {"architecture": architecture, "separator": ".", "weights": {"path": str(folder)}}
    joint = {"path": str(checkpoint), "layout": layout}
    return {
        "kind": "joint",
        "backbone": "effnet",
        "text": {**text, "joint": joint},
        "visual": {"grid": [7, 7], "tokens": [3, 3], **visual},
    }
