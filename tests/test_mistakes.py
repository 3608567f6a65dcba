"""Mistakes that would show only after hours, or never: each is one line with file and field before any job runs."""

import pytest

from vlret.config import check, read
from vlret.files import InputError

FILES = ["config/models.yaml", "config/config.yaml"]
OWN = "own.yaml"
ADAPTER, LORA, FULL = (f"vlminilm_{tuning}_none_avg" for tuning in ("adapter", "lora", "full"))
RUNS = {"runs": ["bm25_zs_none_none", "effnet_zs_none_concat"]}


@pytest.fixture(scope="module")
def parts():
    """The files of the sample's config as `check` takes them."""
    return [(file, read(file)) for file in FILES]


@pytest.fixture(scope="module")
def changed(parts):
    """The config with another file laid over it."""
    return lambda change: check([*parts, (OWN, change)])


def product(**block):
    """A grid of one block and of what the sample's fusion and ablations need."""
    rest = {"tuning": "zs", "prefix": "none", "pooling": "avg"} | block
    return {"grid": {"product": [rest], "include": [*RUNS["runs"], ADAPTER]}}


def included(name):
    """One experiment more."""
    return {"grid": {"include": [*RUNS["runs"], ADAPTER, name]}}


def interpolated(step):
    return {"fusions": {"f": {**RUNS, "method": "interpolation", "normalisation": "zmuv", "step": step}}}


def of_adapter(**training):
    """Its training changed, and beside it no other experiment's."""
    return {**included(ADAPTER), "training": {"experiments": {ADAPTER: training}}}


COSINE = {"loss": {"name": "cosine", "temperature": 0.05, "learned": False}}
NOT_NORMALISED = {"models": {"vlminilm": {"head": {"normalise": False}}}}
MATCHED = {"tasks": {"viquae": {"kind": "viquae"}, "images": {"kind": "match_image"}}}

WRONG = [
    (interpolated(0.3), "fusions.f.step: 0.3 does not divide 1; set 0.25, or another 1/n"),
    (interpolated(0.07), "fusions.f.step: 0.07 does not divide 1; set 0.05, or another 1/n"),
    (
        product(model="minilm", pooling=["avg", "eoss"]),
        "grid.product.0.pooling: eoss yields no experiment: pooling 'eoss' does not go with a model of kind text: "
        "1token, avg, avg-all, eos, decoder, sum-last-N, concat-last-N",
    ),
    (
        product(model="effnet", pooling=["avg", "eos"]),
        "grid.product.0.pooling: eos yields no experiment: pooling 'eos' does not go with a model of kind image: "
        "avg, concat",
    ),
    (
        product(model=["minilm", "bm25"]),
        "grid.product.0.model: bm25 yields no experiment: pooling 'avg' does not go with a model of kind lexical: none",
    ),
    (
        product(model="effnet", tuning=["zs", "full"]),
        "grid.product.0.tuning: full yields no experiment: tuning 'full' does not go with a model of kind image: zs",
    ),
    (
        product(model="effnet", prefix=["none", "vqa"]),
        "grid.product.0.prefix: vqa yields no experiment: prefix 'vqa' does not go with a model of kind image: none",
    ),
    (
        {"evaluation": {"metrics": ["mrr@100", "mrr@1000"], "columns": ["mrr@100"]}},
        "evaluation.metrics: mrr@1000 looks deeper than a run, which has retrieval.depth, 100 passages; "
        "set retrieval.depth to 1000, or leave it out",
    ),
    (
        {"evaluation": {"permutations": 98}},
        "evaluation.permutations: 98 cannot make p as low as 0.01 (correction none, 15 rows); "
        "set 99 or more, or another evaluation.correction",
    ),
    (
        {"evaluation": {"p": 0.00001}},
        "evaluation.permutations: 10000 cannot make p as low as 1e-05 (correction none, 15 rows); "
        "set 99999 or more, or another evaluation.correction",
    ),
    (
        {"evaluation": {"correction": "holm", "permutations": 10498}},
        "evaluation.permutations: 10498 cannot make p as low as 0.01 (correction holm, 15 rows); "
        "set 10499 or more, or another evaluation.correction",
    ),
    (
        of_adapter(**COSINE) | NOT_NORMALISED,
        "training.loss: cosine compares directions, and models.vlminilm.head.normalise is false, so that search "
        f"compares lengths too; set that to true, or the loss to dpr, task viquae (of {ADAPTER})",
    ),
    (
        included("vlminilm_full_none_eos") | {"training": {"defaults": MATCHED}},
        "training.tasks.images: match_image encodes images without text, which pooling eos needs; "
        "take another pooling, or the task away (of vlminilm_full_none_eos)",
    ),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message[:60] for _, message in WRONG])
def test_a_mistake_is_one_line_with_file_and_field(changed, change, message):
    with pytest.raises(InputError) as caught:
        changed(change)
    assert str(caught.value).partition(": ")[2] == message
    assert str(caught.value).startswith((f"{OWN}: ", "config/"))


RIGHT = [
    interpolated(0.1),
    interpolated(1 / 3),
    interpolated(1),
    product(model=["effnet", "minilm"], tuning=["zs", "full"], prefix=["none", "vqa"]),
    {"evaluation": {"permutations": 99}},
    {"evaluation": {"correction": "holm", "permutations": 10499}},
    {"evaluation": {"correction": "benjamini-hochberg", "permutations": 99}},
    {"evaluation": {"correction": "holm", "test": "t", "permutations": 5}},
    of_adapter(**COSINE),
    of_adapter(loss={"name": "dpr"}) | NOT_NORMALISED,
]


@pytest.mark.parametrize("change", RIGHT, ids=str)
def test_what_is_no_mistake_stays_allowed(changed, change):
    changed(change)
