"""Small CLIPs with random weights, in open_clip's format."""

import json

import open_clip
import torch
import transformers
from safetensors.torch import save_file

SIZES = {
    "embed_dim": 6,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 24, "width": 16, "heads": 2, "layers": 2},
}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8, "patch_size": None}


def random_clip(folder, **sizes):
    """Write a random CLIP with `sizes` overriding `SIZES`; its vocabulary is letters, inside words and final."""
    folder.mkdir(parents=True)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: row for row, word in enumerate(words)}
    transformers.CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    sizes = {**SIZES, "text_cfg": {**SIZES["text_cfg"], "vocab_size": len(words)}, **sizes}
    preprocess = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28], "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": sizes, "preprocess_cfg": preprocess}))
    torch.manual_seed(2)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return model
