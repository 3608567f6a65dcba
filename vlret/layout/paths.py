"""The paths of all results below `results/`; nothing else defines them."""

import re

from vlret.settings import SPLITS

SETTINGS = "results/settings/{rule}/{digest}.json"
DATASET, DOWNLOADS, PRETRAINED = "results/{dataset}", "results/downloads", "results/pretraining"
JUDGED = ("validation", "test")
TABLE = {suffix: f"results/{{table}}.{suffix}" for suffix in ("tex", "csv", "md", "html")}

# Rule → its outputs by name; the first is `--out` of its verb, or inside it.
OUTPUTS: dict[str, dict[str, str]] = {
    "download": {"out": f"{DOWNLOADS}/{{package}}"},
    "repository": {"out": f"{DOWNLOADS}/hub/{{owner}}/{{name}}/{{revision}}"},
    "source": {"out": f"{DOWNLOADS}/sources/{{source}}"},
    "images": {"out": f"{DOWNLOADS}/images/{{source}}"},
    "by_hand": {"out": "results/by-hand/{file}"},
    "sample": {
        **{split: f"{DATASET}/raw/{split}.jsonl" for split in SPLITS},
        "wikipedia": f"{DATASET}/raw/wikipedia.jsonl",
        "images": f"{DATASET}/raw/images",
    },
    "trivia": {
        **{split: f"{DATASET}/raw/{split}.jsonl" for split in SPLITS},
        "report": f"{DATASET}/data/trivia.json",
    },
    "articles": {"out": f"{DATASET}/data/articles", "report": f"{DATASET}/data/articles.json"},
    "questions": {"out": f"{DATASET}/data/questions", "report": f"{DATASET}/data/questions.json"},
    "passages": {"out": f"{DATASET}/data/passages"},
    "published_passages": {"out": f"{DATASET}/data/passages"},
    "entities": {
        **{name: f"{DATASET}/data/{name}" for name in ("articles", "passages", "questions")},
        "report": f"{DATASET}/data/entities.json",
    },
    "normalise": {"out": f"{DATASET}/data/normalised"},
    "qrels": {
        **{split: f"{DATASET}/data/qrels/{split}.trec" for split in SPLITS},
        "report": f"{DATASET}/data/qrels.json",
    },
    "features": {"out": f"{DATASET}/features/{{backbone}}/shards/{{collection}}/{{scatteritem}}"},
    "gather": {"out": f"{DATASET}/features/{{backbone}}/{{collection}}"},
    "lexical_index": {"out": f"{DATASET}/lexical/index"},
    "lexical_tune": {"out": f"{DATASET}/lexical/tuning.json", "heatmap": f"{DATASET}/lexical/tuning.svg"},
    "lexical_search": {"out": f"{DATASET}/lexical/runs/{{split}}.{{depth}}.trec"},
    "join": {"out": f"{DATASET}/runs/{{experiment}}.trec"},
    "foreign": {"out": f"{DATASET}/runs/{{run}}.trec"},
    "negatives": {"out": f"{DATASET}/negatives/{{miner}}/{{split}}.parquet"},
    "pretrain": {"out": f"{PRETRAINED}/checkpoints/{{experiment}}"},
    "train": {"out": f"{DATASET}/checkpoints/{{experiment}}"},
    "embed": {"out": f"{DATASET}/embeddings/passages/{{experiment}}/{{scatteritem}}"},
    "embed_questions": {"out": f"{DATASET}/embeddings/questions/{{experiment}}.npy"},
    "ablate": {"out": f"{DATASET}/ablations/{{experiment}}.{{ablation}}.npy"},
    "index": {"out": f"{DATASET}/indices/{{experiment}}.faiss"},
    "search": {"out": f"{DATASET}/runs/{{experiment}}.trec", "report": f"{DATASET}/runs/{{experiment}}.json"},
    "search_mined": {
        "out": f"{DATASET}/negatives/runs/{{experiment}}.trec",
        "report": f"{DATASET}/negatives/runs/{{experiment}}.json",
    },
    "search_ablation": {
        "out": f"{DATASET}/runs/{{experiment}}.{{ablation}}.trec",
        "report": f"{DATASET}/runs/{{experiment}}.{{ablation}}.json",
    },
    "fuse": {"out": f"{DATASET}/runs/{{fusion}}.trec", "report": f"{DATASET}/runs/{{fusion}}.json"},
    "pool": {
        **{split: f"{DATASET}/dynamic/{{table}}/qrels/{split}.trec" for split in JUDGED},
        "report": f"{DATASET}/dynamic/{{table}}/qrels.json",
    },
    "metrics": {"out": f"{DATASET}/metrics/{{row}}.json"},
    "metrics_dynamic": {"out": f"{DATASET}/dynamic/{{table}}/metrics/{{row}}.json"},
    "table": {**TABLE, "pvalues": "results/{table}.pvalues.csv"},
}
TRAININGS = ("train", "pretrain")
# What may be deleted and is made again for other experiments.
ENCODED = ("features", "gather", "embed", "embed_questions", "ablate", "index")
REMADE = frozenset((*TRAININGS, *ENCODED, "negatives", "search_mined"))
TABLES = ("questions", "passages", "articles")

# Rules that run only for the evaluated dataset; the others prepare any dataset.
EVALUATED = frozenset(
    (
        *("train", "embed", "embed_questions", "ablate", "index", "search", "search_mined", "search_ablation"),
        *("join", "foreign", "fuse", "pool", "metrics", "metrics_dynamic"),
    )
)
PATTERN = re.compile(r"{(\w+)}")


def wildcards_of(pattern: str) -> list[str]:
    """The wildcards of a path, in order."""
    return PATTERN.findall(pattern)


def beside(rule: str, kind: str, suffix: str) -> str:
    """The path pattern of a rule's `logs` or `benchmarks`."""
    pattern = next(iter(OUTPUTS[rule].values()))
    base = next((base for base in (DATASET, DOWNLOADS, PRETRAINED) if pattern.startswith(base)), "results")
    own = [f"{{{name}}}" for name in wildcards_of(pattern) if name != "dataset"]
    return f"{base}/{kind}/{'/'.join([rule, '_'.join(own)] if own else [rule])}{suffix}"
