"""Encoders with published weights: what each layout calls the tensors, and what else may stand in its files."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from vlret.encoders.bart import Bart, BartConfig
from vlret.encoders.bert import Bert, BertConfig
from vlret.encoders.biencoder import Tower
from vlret.encoders.checkpoints import load_strictly, read_tensors, weights_file
from vlret.encoders.joint import ACTIVATIONS
from vlret.encoders.t5 import T5, T5Config
from vlret.encoders.vocabulary import extend
from vlret.files import InputError, read_json


@dataclass(frozen=True)
class Architecture:
    """An encoder, its sizes, and how `config.json` tells what it is.

    Attributes
    ----------
    model_types
        The values of `model_type` that fit.
    fixed
        Fields that may stand in `config.json` and change the maths, with the one value that is built here.
    activation
        The field that names the activation; None where `fixed` has it.
    decoder_layers
        The field that says how deep the decoder is, and the one that says so where it is absent.
    deviation
        The field with the standard deviation of new embeddings, and its value where the field is absent.
    """

    encoder: type[nn.Module]
    sizes: type
    model_types: tuple[str, ...]
    fixed: Mapping[str, object]
    activation: str | None
    decoder_layers: tuple[str, str] | None
    deviation: tuple[str, float]


ARCHITECTURES = {
    "t5": Architecture(
        T5,
        T5Config,
        ("t5",),
        {"feed_forward_proj": "relu", "is_gated_act": False},
        None,
        ("num_decoder_layers", "num_layers"),
        ("initializer_factor", 1.0),
    ),
    "bart": Architecture(
        Bart,
        BartConfig,
        ("bart",),
        {"normalize_before": False, "add_final_layer_norm": False, "normalize_embedding": True},
        "activation_function",
        ("decoder_layers", "decoder_layers"),
        ("init_std", 0.02),
    ),
    "bert": Architecture(
        Bert,
        BertConfig,
        ("bert", "dpr"),
        {"position_embedding_type": "absolute"},
        "hidden_act",
        None,
        ("initializer_range", 0.02),
    ),
}

PROJECTION = "projection.weight"


@dataclass(frozen=True)
class Layout:
    """How published files name the parameters of an encoder and, where they hold one, of the head.

    Attributes
    ----------
    architecture
        One of `ARCHITECTURES`.
    renamed
        Pattern -> what it becomes, one after the other, from published names to ours.
    copies
        Names under which the token embedding is stored again; one that differs from it is an `InputError`.
    unused
        Pattern of names that may be there and are not read -> why.
    joint
        Whether the visual embedding and the rows of all tokens are there too.
    projected
        Whether the head's projection is there too.
    """

    architecture: str
    renamed: Mapping[str, str] = field(default_factory=dict)
    copies: tuple[str, ...] = ()
    unused: Mapping[str, str] = field(default_factory=dict)
    joint: bool = False
    projected: bool = False


STACKS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
OBJECTS = "encoder.visual_embedding.obj_order_embedding.weight"
POOLER = {
    r"pooler\..*": "for next-sentence prediction; none of our poolings uses it",
    r"embeddings\.position_ids": "0, 1, 2, ...",
}
CROSS_BIAS = {
    r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight": "read by no version of T5; "
    "t5-base was published with it (transformers names it among the unexpected keys to ignore)",
}
# Left by the DDP-wrapped trainer of VL-T5, and by its versions that still had an encoder of vision apart.
TRAINER = {r"^module\.": ""}
VISION = {r"^vis_encoder\.": "encoder."}
NO_DECODER = {r"decoder\..*": "no pooling but `decoder` uses it"}

LAYOUTS = {
    "t5": Layout("t5", copies=STACKS, unused=CROSS_BIAS),
    "bart": Layout(
        "bart",
        {r"^model\.": ""},
        STACKS,
        {
            "final_logits_bias": "of the head for language modelling, which no encoder has",
            r"(encoder|decoder)\.version": "a counter of fairseq's (transformers ignores it too)",
        },
    ),
    # TensorFlow's names of a norm's parameters: bert-base-uncased still has them.
    "bert": Layout(
        "bert",
        {r"^bert\.": "", r"LayerNorm\.gamma$": "LayerNorm.weight", r"LayerNorm\.beta$": "LayerNorm.bias"},
        unused={**POOLER, r"cls\..*": "the heads of pre-training"},
    ),
    "dpr": Layout("bert", {r"^(question_encoder|ctx_encoder)\.bert_model\.": ""}, unused=POOLER),
    "sentence-t5": Layout("t5", {r"^linear\.weight$": PROJECTION}, STACKS, projected=True),
    "vlt5": Layout("t5", {**TRAINER, **VISION}, (*STACKS, OBJECTS), joint=True),
    "vlbart": Layout(
        "bart",
        {**TRAINER, r"^model\.": "", **VISION},
        (*STACKS, OBJECTS),
        {"final_logits_bias": "of the head for language modelling, which no encoder has"},
        joint=True,
    ),
    # cvlp keeps VL-T5's encoder alone, and writes its retrieval encoders so.
    "cvlp": Layout(
        "t5",
        {
            **TRAINER,
            r"^prompt_modules\.": "prompt.",
            r"^(?!embed_tokens\.|projection\.)": "encoder.",
            r"^embed_tokens\.": "shared.",
            r"^projection\.projection\.": "projection.",
        },
        (OBJECTS,),
        joint=True,
        projected=True,
    ),
}


def layout_of(name: str) -> Layout:
    """A layout by its name; `InputError` for another."""
    if name not in LAYOUTS:
        raise InputError(f"layout {name!r}: known are {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def empty_encoder(folder: Path, layout: Layout, decoder: bool, rows: int | None = None) -> nn.Module:
    """An encoder of the sizes in a folder's `config.json`, its parameters not yet filled.

    Parameters
    ----------
    decoder
        Whether its decoder is built.
    rows
        The rows of the token embedding; None for as many as there are published.

    Raises
    ------
    InputError
        If `config.json` lacks a size, or describes another architecture.
    """
    path, kind = Path(folder) / "config.json", ARCHITECTURES[layout.architecture]
    stored = read_json(path)
    if stored.get("model_type") not in kind.model_types:
        raise InputError(f"{path}: model_type: {stored.get('model_type')!r}, expected {' or '.join(kind.model_types)}")
    for name, value in kind.fixed.items():
        if stored.get(name, value) != value:
            raise InputError(f"{path}: {name}: {stored[name]!r}; only {value!r} is built here")
    if kind.activation and stored.get(kind.activation, "gelu") not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise InputError(f"{path}: {kind.activation}: {stored[kind.activation]!r}; only {known} are built here")
    if kind.decoder_layers:
        name, otherwise = kind.decoder_layers
        stored[name] = stored.get(name) or stored.get(otherwise, 0) if decoder else 0
    elif decoder:
        raise InputError(f"{path}: a {layout.architecture} has no decoder, and so no pooling `decoder`")
    if rows is not None:
        stored["vocab_size"] = rows
    sizes = {size.name: size.default for size in fields(kind.sizes)}
    if missing := [name for name, default in sizes.items() if default is MISSING and name not in stored]:
        raise InputError(f"{path}: {missing[0]}: missing")
    config = kind.sizes(**{name: value for name, value in stored.items() if name in sizes})
    with torch.device("meta"):
        encoder = kind.encoder(config)
    return encoder.to_empty(device="cpu")


def fill(tower: Tower, path: Path, layout: Layout, new_rows: float = 0.0, seed: int = 0) -> frozenset[str]:
    """Fill a tower's encoder, and its projection where the layout has one, from published weights.

    Parameters
    ----------
    path
        The file of a joint layout; for any other the folder, in Hugging Face's layout.
    new_rows, seed
        The standard deviation and the seed of rows of the token embedding that were not published.

    Returns
    -------
    The names of the parameters that were filled.

    Raises
    ------
    InputError
        If a parameter is missing, unexpected (the layout's `unused` aside), misshapen, or differs from its copy.
    """
    path = Path(path) if layout.joint else weights_file(Path(path))
    weights = ours(_read(path, layout), layout, tower.encoder.decoder is not None, path)
    parameters = dict(tower.encoder.state_dict())
    if layout.projected and isinstance(tower.projection, nn.Linear):
        parameters[PROJECTION] = tower.projection.weight.detach()
    table = f"{ARCHITECTURES[layout.architecture].encoder.token_embedding}.weight"
    if table in weights and not layout.joint:
        weights[table] = extend(weights[table], len(parameters[table]), new_rows, seed)
    load_strictly(parameters, weights, path)
    return frozenset(name if name == PROJECTION else f"encoder.{name}" for name in parameters)


def ours(tensors: Mapping[str, Tensor], layout: Layout, decoder: bool, path: Path) -> dict[str, Tensor]:
    """Published tensors under our names, without copies of the token embedding and without what is not used."""
    named: dict[str, Tensor] = {}
    for published, tensor in tensors.items():
        name = published
        for pattern, replacement in layout.renamed.items():
            name = re.sub(pattern, replacement, name)
        if name in named:
            raise InputError(f"{path}: {published}: there is another tensor of that name but for its prefix")
        named[name] = tensor
    table = f"{ARCHITECTURES[layout.architecture].encoder.token_embedding}.weight"
    stored = [name for name in (table, *layout.copies) if name in named]
    for name in stored[1:]:
        if not torch.equal(named[name], named[stored[0]]):
            raise InputError(f"{path}: {name}: differs from {stored[0]}, of which it should be a copy")
    if stored:
        named[table] = named[stored[0]]
    unused = [*layout.unused, *([] if decoder else NO_DECODER)]
    return {
        name: tensor
        for name, tensor in named.items()
        if name not in layout.copies and not any(re.fullmatch(pattern, name) for pattern in unused)
    }


def _read(path: Path, layout: Layout) -> dict[str, Tensor]:
    """The tensors of a file, and of the projection that sentence-transformers puts into a folder beside it."""
    tensors = read_tensors(path)
    if layout.projected and not layout.joint:
        dense = path.parent / "2_Dense"
        activation = read_json(dense / "config.json").get("activation_function", "")
        if not activation.endswith(".Identity"):
            raise InputError(f"{dense}/config.json: activation_function: {activation!r}; only Identity is built here")
        tensors |= read_tensors(weights_file(dense))
    return tensors
