"""VL-Adapter's and cvlp's models as ours: a case's sizes, options and parameter names."""

import re
from dataclasses import fields, replace

import torch
from safetensors.torch import load_file
from tiny_encoders import fitting, tuning

from vlret.encoders.bart import Bart, BartConfig
from vlret.encoders.biencoder import BiEncoder, Tower
from vlret.encoders.t5 import T5, T5Config
from vlret.encoders.visual import VisualEmbedding
from vlret.tuning.methods import tune


def joint_encoder(kind, config, decoder):
    """A T5 or BART of a case's sizes with its visual embedding, with or without decoder."""
    if kind == "bart":  # the cases name the heads of both stacks once
        config = {"decoder_attention_heads": config["encoder_attention_heads"], **config}
    model, sizes = (T5, T5Config) if kind == "t5" else (Bart, BartConfig)
    sizes = sizes(**{field.name: config[field.name] for field in fields(sizes) if field.name in config})
    if not decoder:
        sizes = replace(sizes, **{"num_decoder_layers" if kind == "t5" else "decoder_layers": 0})
    encoder = model(sizes)
    each = "each" if config["individual_vis_layer_norm"] else "sum"
    norms, order = each if config["use_vis_layer_norm"] else "none", config["use_vis_order_embedding"]
    visual = VisualEmbedding(config["feat_dim"], encoder.dim, encoder.visual_norm, norms, order, config["n_images"])
    encoder.encoder.visual_embedding = visual
    return encoder


def settings(case):
    """The settings of our tuning method that a case's flags describe."""
    flags, projection = case["method_flags"], case["method_flags"].get("unfreeze_projectionHead")
    # VL-Adapter always trains the visual embedding.
    visual = {"visual": flags.get("unfreeze_visual_embedding", case["group"] == "vladapter")}
    if flags.get("unfreeze_language_model"):
        return tuning("full")
    if flags.get("use_lora"):
        lora = case["lora_config"]
        own = {"rank": lora["lora_dim"], "alpha": lora["lora_alpha"], "dropout": 0.0, "bias": "all"}
        return tuning("lora", **own, sharing="single" if lora["use_single_lora"] else "multiple", **visual)
    if flags.get("encoder_prompt_len"):
        own = {"tokens": flags["encoder_prompt_len"], "hidden": flags["mid_dim"]}
        sharing = "single" if flags.get("use_single_prompt") else "multiple"
        return tuning("prompt", **own, sharing=sharing, **visual)
    for name, method in ADAPTERS.items():
        if flags.get(f"use_{name}"):
            method, own = method(case.get("adapter_config") or {})
            method = "adapter+projection" if projection and method == "adapter" else method
            return fitting(method, **own, **adapter_settings(case), **visual)
    return fitting("projection" if projection else "visual" if visual["visual"] else "zs", **visual)


def adapter_settings(case):
    """The settings common to all kinds of adapters."""
    flags = {**case["method_flags"], **(case.get("adapter_config") or {})}
    norms = tuple(bool(flags.get(f"add_layer_norm_{place}_adapter")) for place in ("before", "after"))
    sharing = [name for flag, name in SHARING.items() if flags.get(flag)]
    return {
        "reduction_factor": case["config"]["reduction_factor"],
        "sharing": sharing[0] if sharing else "multiple",
        "norms": NORMS[norms],
        "cross_attention": case["config"].get("add_adapter_cross_attn", True),
        "unfreeze_layer_norms": flags.get("unfreeze_layer_norms", False),
    }


def compacter(config):
    """Our name and specific settings of a compacter."""
    rule, rank = "shared" if config["shared_phm_rule"] else "own", config["phm_rank"]
    own = {
        "division": config["hypercomplex_division"],
        "rule": rule,
        "rank": rank if config["factorized_phm"] else None,
    }
    return "compacter", own


def hyperformer(config):
    """Our name and specific settings of a hyperformer."""
    theirs = {"task_embedding": "task_embedding_dim", "hidden": "task_hidden_dim"}
    theirs["projected"] = "projected_task_embedding_dim"
    kind = "one" if config["efficient_unique_hyper_net"] else "unique"
    return "hyperformer", {"kind": kind, **{name: config[key] for name, key in theirs.items()}}


NORMS = {(False, False): "none", (True, False): "pre", (False, True): "post", (True, True): "both"}
SHARING = {"use_single_adapter": "single", "share_down_sampler": "down", "share_up_sampler": "up"}
ADAPTERS = {
    "adapter": lambda config: ("adapter", {}),
    "compacter": compacter,
    "lradapter": lambda config: ("lradapter", {"rank": config["low_rank_rank"]}),
    "hyperformer": hyperformer,
}


def tuned(case, decoder):
    """The bi-encoder of a case and its tasks."""
    config, flags = case["config"], case["method_flags"]
    tasks = re.split("[, ]+", flags.get("tasks", "viquae"))
    encoder = joint_encoder(case.get("backbone_kind", "t5"), config, decoder)
    model = BiEncoder(Tower(encoder, "avg", projection=config.get("dim_projectionHead")))
    tune(model, settings(case), tasks)
    return model, tasks


def our_name(name, case, names):
    """Our name, within the question tower, of one of their parameters; `names` are all of ours."""
    if case["group"] == "cvlp":
        name = name if name.startswith("projection.") else f"encoder.{name}"
        name = {"encoder.embed_tokens.weight": "shared.weight"}.get(name, name)
    if name == "projection.projection.weight":
        return "projection.weight"
    name = re.sub(r"lora_([AB])s\.([^.]+)$", r"lora_\1.\2.weight", name.removeprefix("model."))
    name = "encoder." + name.replace("encoder.prompt_modules.", "encoder.prompt.")
    wrapped = re.sub(r"\.(weight|bias)$", r".base_layer.\1", name)
    return wrapped if wrapped in names else name


def load(path, case, model):
    """Load a case's weights strictly; returns the bias of its logits, or None."""
    stored = load_file(path.with_name(case["weights_file"]))
    names = dict(model.question.named_parameters())
    bias = stored.pop("final_logits_bias", None)
    for tied in case["tied_groups"]:
        stored = {name: tensor for name, tensor in stored.items() if name not in tied[1:]}
    renamed = {our_name(name, case, names): tensor for name, tensor in stored.items()}
    assert renamed.keys() == names.keys()
    with torch.no_grad():
        for name, parameter in names.items():
            assert parameter.shape == renamed[name].shape, name
            parameter.copy_(renamed[name])
    return bias
