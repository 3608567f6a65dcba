"""What `config/viquae.yaml` names, small: sources in their published layouts, and tiny random models where it looks.

Models lie where the workflow fetches published ones to, so that their entries are used as they are; all but the widths
of the config that depend on them stays as well.
"""

import json

import published
import tiny_models
import torch
import transformers
from random_clip import RESNET, random_clip

from vlret.experiment import load_config, merge

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
]


def write_sources(folder):
    """Every source of the config in `folder`, and `data/entities` beside it; what stands for them in the config."""
    root = folder / "published"
    published.viquae(root / "viquae_dataset", ASKED, KNOWN)
    published.wikipedia(root / "viquae_wikipedia", KNOWN)
    every = [about for some in published.entities(0, KNOWN) for about in some]
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


def write_models(folder, models, backbones):
    """Tiny random models, each where the workflow looks for the published one that its entry names."""
    place = lambda weights: folder / HUB / weights["repository"] / weights["revision"]  # noqa: E731
    for name in ("clip-rn101", "clip-rn50-joint"):
        random_clip(place(backbones[name]["weights"]), vision_cfg=RESNET)
    t5 = place(models["clipt5"]["text"]["weights"])
    tiny_models.vlt5(t5, feature_dim=256)
    torch.manual_seed(0)
    transformers.T5Model(transformers.T5Config(vocab_size=185, **tiny_models.T5_SIZES)).save_pretrained(t5)
    bert = place(models["dprbert"]["text"]["weights"])
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789"]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    transformers.BertModel(transformers.BertConfig(vocab_size=len(words), **sizes)).save_pretrained(bert)
    (bert / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer(vocab={word: row for row, word in enumerate(words)}).save_pretrained(bert)


def miniature(folder):
    """Write all of it to the repository `folder`; the config."""
    config = load_config([folder / "config" / "models.yaml", folder / "config" / "viquae.yaml"])
    local = write_sources(folder)
    write_models(folder, config["models"], config["backbones"])
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
    training["experiments"] = {"dprbert_full_none_1token": training["experiments"]["dprbert_full_none_1token"]}
    changes = {
        "grid": {"product": [dict(zip(PARTS, GRID[0].split("_"), strict=True))], "include": GRID[1:]},
        "backbones": {"clip-rn101": {"dim": 256}, "clip-rn50-joint": {"dim": 6}},
        "models": {"clipt5-mt": {"visual": {"grid": [2, 2], "tokens": [2, 2]}}},  # the tiny CLIP's
        "features": {"shards": 1, "workers": 1},
        "lexical": {"b": {"step": 0.5}, "k1": {"step": 1.0}},
        "tuning": {"prompt": {"hidden": 16}},
        "embedding": {"question_tokens": 24, "passage_tokens": 24},
        "evaluation": {"permutations": 200},
        "compute": {"threads": 1, "environment": "cpu"},
    }
    small = {**config, "datasets": datasets, "fusions": {"dpr-clip": config["fusions"]["dpr-clip"]}, "grid": {}}
    del small["ablations"]
    return merge(small, changes)
