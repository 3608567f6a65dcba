"""What `config/viquae.yaml` names, small: sources in their published layouts, and tiny random models where it looks.

Models lie where the workflow fetches published ones to, so that their entries are used as they are; all but the widths
of the config that depend on them stays as well. One stands for another: a grid of a tiny CLIP for the regions of the
Faster R-CNN, which has one size alone.
"""

import json
import shutil
from functools import partial
from pathlib import Path

import published
import timm
import tiny_models
import torch
import transformers
from random_clip import RESNET, random_clip
from safetensors.torch import save_file

from vlret.config import MODELS, check, lay_over, read
from vlret.experiment import trained
from vlret.settings import Config, RepositoryWeights

PARTS = ("model", "tuning", "prefix", "pooling")
KNOWN = (60, 20, 10)  # articles of each type
KILT = 60
ASKED = (24, 12, 12)
PICTURED = 24  # entities that further images are of
HUB = "results/downloads/hub"
GRID = [
    "bm25_zs_none_none",
    "clipt5-mt_adapter_none_avg",
    "dprbert_full_none_1token",
    "clip50_zs_none_avg",
    "clip50title_zs_none_1token",
    "vlt5_lora_none_avg",
    "vlbart_zs_imt_decoder",
]


def write_sources(folder, known):
    """Every source of the config in `folder`, and `data/entities` beside it; what stands for them in the config."""
    root = folder / "published"
    published.viquae(root / "viquae_dataset", ASKED, known)
    published.wikipedia(root / "viquae_wikipedia", known)
    every = [about for some in published.entities(0, known) for about in some]
    published.image_archive(root / "viquae_images", [about.image for about in every])
    published.image_archive(root / "viquae_all_images" / "parts", [about.image for about in every], parts=3)
    splits = {"without_viquae": 16, "with_viquae_validation": 6, "with_viquae_test": 6}
    published.triviaqa_for_viquae(root / "triviaqa_for_viquae", splits, (KILT, 0, 0))
    published.kilt_wikipedia(root / "kilt_wikipedia" / "kilt_knowledgesource.json", KILT)
    asked = (root / "viquae_dataset").glob("*.jsonl")
    barred = {json.loads(line)["wikidata_id"] for path in asked for line in path.read_text().splitlines()}
    chosen = [about for about in every if about.wikidata_id not in barred][:PICTURED]
    table = {about.wikidata_id: [f"{place}-{about.image}" for place in range(3)] for about in chosen}
    images = [image for shown in table.values() for image in shown]
    published.image_folder(folder / "data" / "entities" / "images", images)
    (folder / "data" / "entities" / "entities.json").write_text(json.dumps(table))
    names = ("viquae_dataset", "viquae_wikipedia", "viquae_images", "viquae_all_images", "kilt_wikipedia")
    local = {name: {"name": name, "path": f"published/{name}"} for name in (*names, "triviaqa_for_viquae")}
    files = dict(zip(("train", "validation", "test"), (f"{name}.jsonl" for name in splits), strict=True))
    local["triviaqa_for_viquae"]["files"] = files
    return local


def vlt5(folder, weights):
    """A T5, and VL-T5 as the checkpoint of its own that somebody has fetched."""
    tiny_models.vlt5(folder, REGION)
    torch.manual_seed(0)
    config = transformers.T5Config(vocab_size=185, **tiny_models.T5_SIZES)
    transformers.T5Model(config).save_pretrained(folder)
    folder.with_suffix(".pth").rename(weights / "VLT5Epoch30.pth")


def vlbart(folder, weights):
    """BART's sizes and vocabulary, and VL-BART's checkpoint."""
    tiny_models.vlbart(folder, REGION)
    folder.with_suffix(".pth").rename(weights / "VLBartEpoch30.pth")


def sentence_t5(folder, _):
    folder.mkdir(parents=True)
    shutil.copy(tiny_models.TOY, folder / "spiece.model")
    torch.manual_seed(1)
    transformers.T5EncoderModel(transformers.T5Config(vocab_size=185, **tiny_models.T5_SIZES)).save_pretrained(folder)
    (folder / "2_Dense").mkdir()
    sizes = {"in_features": 32, "out_features": 768, "bias": False}
    described = {**sizes, "activation_function": "torch.nn.modules.linear.Identity"}
    (folder / "2_Dense" / "config.json").write_text(json.dumps(described))
    save_file({"linear.weight": torch.randn(768, 32)}, folder / "2_Dense" / "model.safetensors")


def bert(folder, _, kind="BertModel", config=transformers.BertConfig):
    folder.mkdir(parents=True)
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789"]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    torch.manual_seed(2)
    getattr(transformers, kind)(config(vocab_size=len(words), **sizes)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer(vocab={word: row for row, word in enumerate(words)}).save_pretrained(folder)


def clip(folder, _):
    random_clip(folder, vision_cfg=RESNET)


def resnet(folder, _):
    folder.mkdir(parents=True)
    torch.manual_seed(3)
    save_file(timm.create_model("test_resnet", num_classes=5).state_dict(), folder / "model.safetensors")
    seen = {
        "input_size": [3, 64, 64],
        "crop_pct": 0.9,
        "interpolation": "bilinear",
        "mean": [0.5] * 3,
        "std": [0.2] * 3,
    }
    described = {"architecture": "test_resnet", "num_classes": 5, "pretrained_cfg": seen}
    (folder / "config.json").write_text(json.dumps(described))


REGION = 256  # numbers that describe one, of the grid that stands for the detector's regions
SMALL = [2, 2]  # rows and columns of that grid
# Who writes what lies in a repository of the hub.
REPOSITORIES = {
    "google-t5/t5-base": vlt5,
    "facebook/bart-base": vlbart,
    "sentence-transformers/sentence-t5-base": sentence_t5,
    "google-bert/bert-base-uncased": bert,
    "facebook/dpr-question_encoder-single-nq-base": partial(
        bert, kind="DPRQuestionEncoder", config=transformers.DPRConfig
    ),
    "facebook/dpr-ctx_encoder-single-nq-base": partial(bert, kind="DPRContextEncoder", config=transformers.DPRConfig),
    **dict.fromkeys(("timm/resnet101_clip.openai", "timm/resnet50_clip.openai", "unc-nlp/frcnn-vg-finetuned"), clip),
    "timm/resnet50.tv_in1k": resnet,
}


def write_models(folder: Path, config: Config) -> None:
    """Tiny random models, each where the workflow looks for a published one that the grid needs."""
    models = [config.models[name] for name in dict.fromkeys(experiment.model for experiment in trained(config))]
    backbones = [config.backbones[model.backbone] for model in models if hasattr(model, "backbone")]
    texts = [model.text for model in models if hasattr(model, "text")]
    named = {getattr(entry, key, None) for entry in (*texts, *backbones) for key in ("weights", "passage")}
    (folder / "weights").mkdir()
    for weights in named:
        if isinstance(weights, RepositoryWeights):
            place = folder / HUB / weights.repository / weights.revision
            REPOSITORIES[weights.repository](place, folder / "weights")


def miniature(folder, whole=False, known=KNOWN):
    """Write all of it to the repository `folder`, for a few rows of the grid or the whole grid; the config's values.

    `known`: how many articles of each type ViQuAE's knowledge base has.
    """
    config = lay_over(read(folder / MODELS), read(folder / "config" / "viquae.yaml"))
    local = write_sources(folder, known)
    datasets = {name: config["datasets"][name] for name in ("viquae", "triviaqa", "wikimage", "multimedia")}
    split = {"train": 0.5, "validation": 0.25, "test": 0.25}
    for entry in datasets.values():
        source = entry["source"]
        source |= {key: local[name] for key, name in source.items() if isinstance(name, str) and name in local}
        source |= {"split": split} if "split" in source else {}
    training = config["training"]
    for part in (training["defaults"], *training["tuning"].values(), *training["experiments"].values()):
        part |= {"steps": 3, "batch_size": 4, "warmup_steps": 1, "precision": "fp32"}
    for recipe in training["pretraining"].values():
        recipe |= {"steps": 6, "batch_size": 4, "warmup_steps": 1}
    config["datasets"] = datasets
    if not whole:
        few(config)
    for model in config["models"].values():
        if "text" in model:
            model["text"]["sizes"] = None  # null takes away what config/models.yaml states
        if "grid" in model.get("visual", {}) and model["visual"]["grid"] != [1, 1]:
            model["visual"] |= {"grid": SMALL, "tokens": SMALL}
    grid = {"family": "clip", "output": "grid", "resize": "squash"}
    changes = {
        "backbones": {
            "frcnn": {**grid, "dim": REGION},
            "clip-rn101": {"dim": 256},
            "clip-rn50-joint": {"dim": 6},
            "resnet50": {"dim": 96},
        },
        "features": {"shards": 1, "workers": 1},
        "lexical": {"b": {"step": 0.5}, "k1": {"step": 1.0}},
        "tuning": {"prompt": {"hidden": 16}},
        "embedding": {"question_tokens": 24, "passage_tokens": 24},
        "evaluation": {"permutations": 200},
        "compute": {"threads": 1, "environment": "cpu"},
    }
    config = lay_over(config, changes)
    write_models(folder, check([("miniature", config)]))
    return config


def few(config):
    """Leave of the config what the rows of `GRID` and one fusion need."""
    config["grid"] = {"product": [dict(zip(PARTS, GRID[0].split("_"), strict=True))], "include": GRID[1:]}
    config["fusions"] = {"dpr-clip": config["fusions"]["dpr-clip"]}
    experiments = config["training"]["experiments"]
    config["training"]["experiments"] = {name: experiments[name] for name in GRID if name in experiments}
    del config["ablations"]
