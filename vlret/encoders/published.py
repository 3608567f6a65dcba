"""Published weights: the tensor names of each layout, and what else its files may hold."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

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
    """An encoder, its sizes, and how to read them from `config.json`.

    Attributes
    ----------
    model_types
        The accepted values of `model_type`.
    fixed
        Fields of `config.json` that change the maths, with the only value supported here.
    activation
        The field that names the activation; None if it is in `fixed`.
    decoder_layers
        The field with the decoder's depth, and its fallback.
    deviation
        The field with the standard deviation of new embeddings, and its default.
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
    """How published files name the parameters of an encoder and of the head, if they hold one.

    Attributes
    ----------
    architecture
        One of `ARCHITECTURES`.
    renamed
        Pattern -> replacement, applied in order, from published names to ours.
    copies
        Names of copies of the token embedding; one that differs from it is an `InputError`.
    unused
        Pattern of names to ignore -> why.
    joint
        Whether the files hold the visual embedding and the rows of all tokens.
    projected
        Whether the files hold the head's projection.
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
    r"pooler\..*": "for next-sentence prediction; no pooling uses it",
    r"embeddings\.position_ids": "0, 1, 2, ...",
}
CROSS_BIAS = {
    r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight": "in the published t5-base, used "
    "by no version of T5 (transformers ignores it too)",
}
# Left by VL-T5's DDP trainer, and by its versions with a separate vision encoder.
TRAINER = {r"^module\.": ""}
VISION = {r"^vis_encoder\.": "encoder."}
NO_DECODER = {r"decoder\..*": "only the pooling `decoder` uses it"}

LAYOUTS = {
    "t5": Layout("t5", copies=STACKS, unused=CROSS_BIAS),
    "bart": Layout(
        "bart",
        {r"^model\.": ""},
        STACKS,
        {
            "final_logits_bias": "of the language-modelling head, which encoders lack",
            r"(encoder|decoder)\.version": "fairseq's version counter (transformers ignores it too)",
        },
    ),
    # TensorFlow's names of norm parameters, which bert-base-uncased still has.
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
        {"final_logits_bias": "of the language-modelling head, which encoders lack"},
        joint=True,
    ),
    # cvlp keeps only VL-T5's encoder; its retrieval encoders have this layout.
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
    """A layout by name; `InputError` for an unknown one."""
    if name not in LAYOUTS:
        raise InputError(f"layout {name!r}: known are {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


class Uninitialised(TorchFunctionMode):
    """Skips the initialisation of parameters; to draw numbers on the meta device, torch would import its compiler."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Return the tensor of a function of `torch.nn.init` as it is; call any other function."""
        if getattr(function, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs or {})


def empty_encoder(folder: Path, layout: Layout, decoder: bool, rows: int | None = None) -> nn.Module:
    """An encoder with the sizes in a folder's `config.json`, its parameters uninitialised.

    Parameters
    ----------
    decoder
        Whether to build its decoder.
    rows
        The rows of the token embedding; None for as many as published.

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
            raise InputError(f"{path}: {name}: {stored[name]!r}; only {value!r} is supported")
    if kind.activation and stored.get(kind.activation, "gelu") not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise InputError(f"{path}: {kind.activation}: {stored[kind.activation]!r}; only {known} are supported")
    if kind.decoder_layers:
        name, fallback = kind.decoder_layers
        stored[name] = stored.get(name) or stored.get(fallback, 0) if decoder else 0
    elif decoder:
        raise InputError(f"{path}: pooling `decoder` needs a decoder, which {layout.architecture} lacks")
    if rows is not None:
        stored["vocab_size"] = rows
    sizes = {size.name: size.default for size in fields(kind.sizes)}
    if missing := [name for name, default in sizes.items() if default is MISSING and name not in stored]:
        raise InputError(f"{path}: {missing[0]}: missing")
    config = kind.sizes(**{name: value for name, value in stored.items() if name in sizes})
    with torch.device("meta"), Uninitialised():
        encoder = kind.encoder(config)
    # Not `to_empty`, for which torch would import SymPy.
    return encoder._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype))


def fill(tower: Tower, path: Path, layout: Layout, new_rows: float = 0.0, seed: int = 0) -> frozenset[str]:
    """Fill a tower's encoder, and its projection if the layout has one, from published weights.

    Parameters
    ----------
    path
        A file for a joint layout; for others a folder in Hugging Face's layout.
    new_rows, seed
        The standard deviation and seed of token embedding rows that were not published.

    Returns
    -------
    The names of the filled parameters.

    Raises
    ------
    InputError
        If a parameter is missing, unexpected (and not `unused`), misshapen, or differs from its copy.
    """
    path = Path(path) if layout.joint else weights_file(Path(path))
    weights = convert(_read(path, layout), layout, tower.encoder.decoder is not None, path)
    parameters = dict(tower.encoder.state_dict())
    if layout.projected and isinstance(tower.projection, nn.Linear):
        parameters[PROJECTION] = tower.projection.weight.detach()
    table = f"{ARCHITECTURES[layout.architecture].encoder.token_embedding}.weight"
    if table in weights and not layout.joint:
        weights[table] = extend(weights[table], len(parameters[table]), new_rows, seed)
    load_strictly(parameters, weights, path)
    return frozenset(name if name == PROJECTION else f"encoder.{name}" for name in parameters)


def convert(tensors: Mapping[str, Tensor], layout: Layout, decoder: bool, path: Path) -> dict[str, Tensor]:
    """Published tensors under our names, without unused ones and copies of the token embedding."""
    named: dict[str, Tensor] = {}
    for published, tensor in tensors.items():
        name = published
        for pattern, replacement in layout.renamed.items():
            name = re.sub(pattern, replacement, name)
        if name in named:
            raise InputError(f"{path}: {published}: another tensor differs from it only in its prefix")
        named[name] = tensor
    table = f"{ARCHITECTURES[layout.architecture].encoder.token_embedding}.weight"
    stored = [name for name in (table, *layout.copies) if name in named]
    for name in stored[1:]:
        if not torch.equal(named[name], named[stored[0]]):
            raise InputError(f"{path}: {name}: differs from {stored[0]}, though it should be a copy")
    if stored:
        named[table] = named[stored[0]]
    unused = [*layout.unused, *([] if decoder else NO_DECODER)]
    return {
        name: tensor
        for name, tensor in named.items()
        if name not in layout.copies and not any(re.fullmatch(pattern, name) for pattern in unused)
    }


def _read(path: Path, layout: Layout) -> dict[str, Tensor]:
    """The tensors of a file, and of the projection that sentence-transformers stores in a folder beside it."""
    tensors = read_tensors(path)
    if layout.projected and not layout.joint:
        dense = path.parent / "2_Dense"
        activation = read_json(dense / "config.json").get("activation_function", "")
        if not activation.endswith(".Identity"):
            raise InputError(f"{dense}/config.json: activation_function: {activation!r}; only Identity is supported")
        tensors |= read_tensors(weights_file(dense))
    return tensors
