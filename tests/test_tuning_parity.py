"""Every tuning method against stored results of VL-Adapter and cvlp."""

import json
import math
import re

import pytest
import torch
import vladapter
from parity import arrays, cases
from tiny_encoders import fitting

from vlret.encoders.biencoder import BiEncoder, Tower
from vlret.encoders.tasks import activate
from vlret.encoders.visual import pool_grid
from vlret.tuning.methods import tune

pytestmark = pytest.mark.parity

PAPER = cases("vladapter", "paper_size_trainable_percentages*")
TUNED = [path for path in cases("vladapter", "*") if path not in PAPER]
STORED = [path for path in TUNED if "arrays_file" in path.read_text(encoding="utf-8")]
CVLP = cases("cvlp", "encoder_*")

# Deliberate differences: what only we train, and when.
DIFFERENCES = {
    # Their trainer looks for the wrong class of norms, so these stay frozen.
    "unfreeze_layer_norms unfreezes T5's norms": (
        lambda kind, settings: kind == "t5" and getattr(settings, "unfreeze_layer_norms", False),
        r"encoder\.(en|de)coder\.(.*\.)?(final_)?layer_norm\.weight",
    ),
    # They implement LoRA only for BART; for T5 the flag only unfreezes other parameters.
    "T5 has LoRA": (lambda kind, settings: kind == "t5" and settings.method == "lora", r".*\.lora_[AB]\..*"),
}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def close(found, expected, by_position=False):
    """Equal within 2e-5 plus 1e-4 of each value, or of the largest value at its position.

    The latter is for logits of LoRA, whose weights are so large here that float32 is imprecise for small logits: the
    stored ones differ from float64 by six times the tolerance.
    """
    expected = torch.as_tensor(expected)
    size = expected.abs().amax(-1, keepdim=True) if by_position else expected.abs()
    excess = ((found - expected).abs() - 2e-5 - 1e-4 * size).max().item()
    assert found.shape == expected.shape
    assert excess <= 0


def ids(path):
    return path.stem


def inputs_of(case, stored):
    """Our inputs for a case: they pool a grid of features and keep its first boxes."""
    visual = {"features": torch.as_tensor(stored["vis_feats"]), "boxes": torch.as_tensor(stored["boxes"])}
    if case["config"]["downsample"]:
        sides = [math.isqrt(boxes) for boxes in (visual["boxes"].shape[1], case["config"]["n_boxes"])]
        pooled = pool_grid(visual["features"], *((side, side) for side in sides))
        visual = {"features": pooled, "boxes": visual["boxes"][:, : case["config"]["n_boxes"]]}
    text = {name: torch.as_tensor(stored[name]) for name in ("input_ids", "attention_mask")}
    return text, visual


def expected_differences(kind, settings, names):
    patterns = [pattern for applies, pattern in DIFFERENCES.values() if applies(kind, settings)]
    return {name for name in names if any(re.fullmatch(pattern, name) for pattern in patterns)}


@pytest.mark.parametrize("path", STORED, ids=ids)
@torch.no_grad()
def test_hidden_states_and_logits_of_each_task_equal_vl_adapters(path):
    case, stored = read(path), arrays(path)
    model, tasks = vladapter.tuned(case, decoder="encoder_only" not in case)
    bias = vladapter.load(path, case, model.eval())
    encoder, (text, visual) = model.question.encoder, inputs_of(case, stored)
    compared = 0
    for task in tasks:
        activate(model, task)
        for name, inputs in {"out": {**text, **visual}, "out_text": text}.items():
            if (expected := stored.get(f"{name}.{task}.last_hidden_state")) is not None:
                close(encoder(**inputs).hidden, expected)
                compared += 1
        if (expected := stored.get(f"out.{task}.lm_logits")) is not None:
            decoded = encoder.decode(encoder(**text, **visual), torch.as_tensor(stored["decoder_input_ids"]))
            scale = encoder.dim**-0.5 if case["backbone_kind"] == "t5" else 1.0
            logits = scale * decoded @ encoder.shared.weight.T
            close(logits if bias is None else logits + bias, expected, by_position="lora" in case["method"])
            compared += 1
    assert compared == sum(name.startswith("out") for name in stored)


@pytest.mark.parametrize("path", CVLP, ids=ids)
@torch.no_grad()
def test_hidden_states_equal_cvlps(path):
    case, stored = read(path), {name: torch.as_tensor(array) for name, array in arrays(path).items()}
    model, _ = vladapter.tuned(case, decoder=False)
    vladapter.load(path, case, model.eval())
    text = {name: stored[name] for name in ("input_ids", "attention_mask")}
    visual = {"features": stored["vis_feats"], "boxes": stored["boxes"]}
    for name, inputs in {"both": {**text, **visual}, "text": text, "vis": visual}.items():
        close(model.question.encoder(**inputs).hidden, stored[f"out_{name}.last_hidden_state"])


@pytest.mark.parametrize("path", [*TUNED, *CVLP], ids=ids)
def test_exactly_what_they_train_is_trained(path):
    case = read(path)
    model, _ = vladapter.tuned(case, decoder=case["group"] == "vladapter")
    named = dict(model.question.named_parameters())
    trained = {name: list(p.shape) for name, p in named.items() if p.requires_grad}
    theirs = {vladapter.our_name(entry["name"], case, named): entry["shape"] for entry in case["freeze"]["trainable"]}
    more = expected_differences(case.get("backbone_kind", "t5"), vladapter.settings(case), named)
    assert not theirs.keys() & more
    assert {name: trained[name] for name in trained.keys() - more} == theirs
    assert trained.keys() - theirs.keys() == more
    added = sum(p.numel() for name, p in named.items() if name in more and "lora_" in name)
    assert sum(p.numel() for p in named.values()) == case["freeze"]["n_total"] + added


VISUAL = {"individual_vis_layer_norm": True, "use_vis_layer_norm": True, "use_vis_order_embedding": True, "n_images": 2}
T5_BASE = {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_decoder_layers": 12, "num_heads": 12}
BART_SIZES = {"layers": 6, "ffn_dim": 3072, "attention_heads": 12}
BART_BASE = {f"{stack}_{name}": size for stack in ("encoder", "decoder") for name, size in BART_SIZES.items()}
BART_BASE |= {"d_model": 768, "max_position_embeddings": 1024}
BASES = {"t5-base": {**T5_BASE, **VISUAL}, "bart-base": {**BART_BASE, **VISUAL}}
ADAPTER = {"sharing": "single", "norms": "none", "cross_attention": True, "unfreeze_layer_norms": True}


def paper_settings(label):
    """Our settings for a run such as `single_compacter hdiv2 r8 noshare nofac`."""
    numbers = {letters: int(number) for letters, number in re.findall(r"([a-z]+) ?(\d+)\b", label)}
    sharing = {"share_down": "down", "share_up": "up", "multiple": "multiple", "single": "single"}
    common = {**ADAPTER, "visual": True, "reduction_factor": numbers.get("r")}
    common["sharing"] = next((value for name, value in sharing.items() if name in label), "single")
    if "adapter" in label:
        return fitting("adapter", **common)
    if "compacter" in label:
        rule = {"rule": "own" if "noshare" in label else "shared", "rank": None if "nofac" in label else 1}
        return fitting("compacter", division=numbers["hdiv"], **rule, **common)
    if "hyperformer" in label:
        widths = {"task_embedding": 512, "hidden": 128, "projected": numbers["p"]}
        return fitting("hyperformer", **widths, **common)
    if "prompt" in label:
        tokens = int(re.search(r"prompts? (\d+)", label).group(1))
        return fitting("prompt", tokens=tokens, hidden=numbers["mid"], **common)
    if "lora" in label:
        return fitting("lora", rank=numbers["lora"], **common)
    return fitting("full")


@pytest.mark.parametrize("path", PAPER, ids=ids)
@pytest.mark.parametrize("base", BASES)
def test_full_size_counts_equal_theirs(path, base):
    runs = {name: run for name, run in read(path)["results"].items() if name.startswith(f"{base} | ")}
    assert runs
    for name, run in runs.items():
        kind, settings = base.removesuffix("-base"), paper_settings(name.split(" | ")[1])
        config = {**BASES[base], "feat_dim": 2048, "vocab_size": 32200 if kind == "t5" else 50465}
        with torch.device("meta"):
            model = BiEncoder(Tower(vladapter.joint_encoder(kind, config, decoder=True), "avg"))
            tune(model, settings, ["a", "b", "c", "d"])
        named = dict(model.question.named_parameters())
        more = sum(named[name].numel() for name in expected_differences(kind, settings, named))
        if kind == "t5" and getattr(settings, "unfreeze_layer_norms", False):
            assert more == 62 * 768  # 25 norms in the encoder, 37 in the decoder
        elif kind == "t5" and settings.method == "lora":
            # queries and values of 12 + 2 * 12 attentions
            assert more == (4 if settings.sharing == "multiple" else 1) * 36 * 2 * settings.rank * 2 * 768
        else:
            assert more == 0
        assert sum(p.numel() for p in named.values() if p.requires_grad) == run["n_trainable"] + more, name
        total = run["n_total"] + (more if settings.method == "lora" else 0)
        assert sum(p.numel() for p in named.values()) == total, name
