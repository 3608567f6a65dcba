"""Tiny random encoders of every kind, with a visual embedding, and tuned bi-encoders of them."""

import torch
from pydantic import TypeAdapter

from vlret.encoders.bart import Bart, BartConfig
from vlret.encoders.bert import Bert, BertConfig
from vlret.encoders.biencoder import BiEncoder, Tower
from vlret.encoders.t5 import T5, T5Config
from vlret.encoders.visual import VisualEmbedding
from vlret.settings import TUNING, AnyTuning, Checkpoint
from vlret.tuning.methods import tune

ENCODERS = {
    "bert": lambda: Bert(BertConfig(30, 16, 2, 2, 24, 16)),
    "t5": lambda: T5(T5Config(30, 16, 8, 24, 2, 2, num_decoder_layers=2)),
    "bart": lambda: Bart(BartConfig(30, 16, 24, 2, 2, 16, 24, 2, 2)),
}
ADAPTER = {
    **{"reduction_factor": 4, "sharing": "single", "norms": "none", "cross_attention": True},
    **{"unfreeze_layer_norms": False, "visual": True},
}
SETTINGS = {
    "bitfit": {"visual": True},
    "projection": {"visual": True},
    "prompt": {"tokens": 3, "hidden": 6, "sharing": "single", "visual": True},
    "adapter": ADAPTER,
    "adapter+projection": ADAPTER,
    "compacter": {**ADAPTER, "division": 2, "rule": "own", "rank": None},
    "lradapter": {**ADAPTER, "rank": 1},
    "hyperformer": {
        **{"kind": "unique", "reduction_factor": 4, "task_embedding": 6, "hidden": 5, "projected": 4},
        **{"unfreeze_layer_norms": False, "visual": True},
    },
    "lora": {"rank": 2, "alpha": 4, "dropout": 0.0, "bias": "none", "sharing": "single", "visual": True},
    "ia3": {"sharing": "single", "visual": True},
}


def tuning(method, **settings):
    """A method's settings, with defaults for the rest."""
    return TypeAdapter(AnyTuning).validate_python({"method": method, **settings})


def fitting(method, **settings):
    """The same, ignoring settings of other methods."""
    return tuning(method, **{name: value for name, value in settings.items() if name in TUNING[method].model_fields})


def small(method, **settings):
    """A method's settings, from `SETTINGS` for the rest."""
    return tuning(method, **{**SETTINGS.get(method, {}), **settings})


def experiment(model, **settings):
    """The settings of an experiment, untuned by default."""
    values = {"name": "tiny", "tuning": {"method": "zs"}, "pooling": "avg", "tokens": {"question": 32, "passage": 32}}
    return Checkpoint.model_validate({"feature_dim": None, "model": model, **values, **settings})


def untuned(kind="bert", sharing="everything", projection=8, seed=0):
    """A bi-encoder with a published text encoder and a new visual embedding and head."""
    torch.manual_seed(seed)
    encoder = ENCODERS[kind]()
    for name, parameter in encoder.named_parameters():  # no degenerate parameters, such as biases of 0 or norms of 1
        parameter.data += 0.1 * torch.randn_like(parameter) if "relative" not in name else 0.0
    published = frozenset(f"encoder.{name}" for name, _ in encoder.named_parameters())
    encoder.encoder.visual_embedding = VisualEmbedding(5, encoder.dim, encoder.visual_norm, order=True)
    return BiEncoder(Tower(encoder, "avg", projection), sharing, published)


def tuned(method, kind="bert", sharing="everything", tasks=("viquae",), seed=0, settings=None):
    """The same, tuned by a method; `settings` override `SETTINGS`."""
    model = untuned(kind, sharing, seed=seed)
    tune(model, small(method, **(settings or {})), tasks)
    return model.eval()


def batch(size=3, seed=0):
    """Texts, one of them padded, and features."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, 30, (size, 5), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, 3:] = 0
    draw = {name: torch.rand(size, 4, dim, generator=generator) for name, dim in (("features", 5), ("boxes", 4))}
    return {"input_ids": ids, "attention_mask": mask, **draw}
