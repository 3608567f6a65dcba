"""Mistakes that would show only after hours, or never: each is one line with file and field before any job runs."""

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from test_reruns import ROOT, Folder

from vlret.config import check, read
from vlret.experiment import Experiment, settings
from vlret.files import InputError, write_json
from vlret.layout import File, Job, Layout
from vlret.layout.counted import check_batches
from vlret.layout.machine import without_gpu
from vlret.made import write_note

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
ONLY_BART = {"grid": {"include": ["bart_zs_none_avg"]}, "fusions": {}}
MATCHED = {"tasks": {"viquae": {"kind": "viquae"}, "images": {"kind": "match_image"}}}

WRONG = [
    (interpolated(0.3), "fusions.f.step: 0.3 does not divide 1; set 0.25, or another 1/n"),
    (interpolated(0.07), "fusions.f.step: 0.07 does not divide 1; set 0.05, or another 1/n"),
    (
        product(model="minilm", pooling=["avg", "eoss"]),
        "grid.product.0.pooling: eoss yields no experiment: pooling 'eoss' is invalid for a model of kind text; valid: "
        "1token, avg, avg-all, eos, decoder, sum-last-N, concat-last-N; did you mean 'eos'?",
    ),
    (
        product(model="effnet", pooling=["avg", "eos"]),
        "grid.product.0.pooling: eos yields no experiment: pooling 'eos' is invalid for a model of kind image; valid: "
        "avg, concat",
    ),
    (
        product(model=["minilm", "bm25"]),
        "grid.product.0.model: bm25 yields no experiment: "
        "pooling 'avg' is invalid for a model of kind lexical; valid: none",
    ),
    (
        product(model="effnet", tuning=["zs", "full"]),
        "grid.product.0.tuning: full yields no experiment: "
        "tuning 'full' is invalid for a model of kind image; valid: zs",
    ),
    (
        product(model="effnet", prefix=["none", "vqa"]),
        "grid.product.0.prefix: vqa yields no experiment: "
        "prefix 'vqa' is invalid for a model of kind image; valid: none",
    ),
    (
        {"evaluation": {"metrics": ["mrr@100", "mrr@1000"], "columns": ["mrr@100"]}},
        "evaluation.metrics: mrr@1000 exceeds the depth of runs, retrieval.depth: 100; "
        "set that to 1000, or remove the metric",
    ),
    (
        {"evaluation": {"permutations": 98}},
        "evaluation.permutations: 98 cannot yield p as low as 0.01 (correction none, 15 rows); "
        "set 99 or more, or another evaluation.correction",
    ),
    (
        {"evaluation": {"p": 0.00001}},
        "evaluation.permutations: 10000 cannot yield p as low as 1e-05 (correction none, 15 rows); "
        "set 99999 or more, or another evaluation.correction",
    ),
    (
        {"evaluation": {"correction": "holm", "permutations": 10498}},
        "evaluation.permutations: 10498 cannot yield p as low as 0.01 (correction holm, 15 rows); "
        "set 10499 or more, or another evaluation.correction",
    ),
    (
        of_adapter(**COSINE) | NOT_NORMALISED,
        "training.loss: cosine ignores vector lengths, but models.vlminilm.head.normalise is false and search "
        f"does not; set that to true, or the loss to dpr, task viquae (of {ADAPTER})",
    ),
    (
        included("vlminilm_full_none_eos") | {"training": {"defaults": MATCHED}},
        "training.tasks.images: match_image encodes images without text, which pooling eos needs; "
        "choose another pooling, or remove the task (of vlminilm_full_none_eos)",
    ),
    (
        included("minilm_zs_none_concat-last-50"),
        "grid.include: minilm_zs_none_concat-last-50: pooling concat-last-50 needs 50 layers, but the encoder of "
        "minilm has 6; use fewer",
    ),
    (
        product(model=["minilm", "vlminilm"], pooling=["avg", "sum-last-7"]),
        "grid.product.0.pooling: minilm_zs_none_sum-last-7: pooling sum-last-7 needs 7 layers, but the encoder of "
        "minilm has 6; use fewer",
    ),
    (
        {"embedding": {"question_tokens": 513}},
        "embedding.question_tokens: 513 tokens, but the encoder of minilm has positions for 512; set it to 512 or less",
    ),
    (
        included("bart_zs_none_avg") | {"embedding": {"passage_tokens": 513}},
        "embedding.passage_tokens: 513 tokens, but the encoder of vlminilm has positions for 512; "
        "set it to 512 or less",
    ),
    (
        included("bart_zs_none_avg") | {"embedding": {"passage_tokens": 1025}, "ablations": None, **ONLY_BART},
        "embedding.passage_tokens: 1025 tokens, but the encoder of bart has positions for 1024; set it to 1024 or less",
    ),
    (
        included("minilm_compacter_none_avg") | {"tuning": {"compacter": {"division": 5}}},
        "tuning.compacter.division: 5 does not divide 384 and 48, the widths of the encoder of minilm and of its "
        "adapters (of minilm_compacter_none_avg)",
    ),
    (
        included("minilm_compacter_none_avg") | {"tuning": {"compacter": {"reduction_factor": 128, "division": 2}}},
        "tuning.compacter.division: 2 does not divide 384 and 3, the widths of the encoder of minilm and of its "
        "adapters (of minilm_compacter_none_avg)",
    ),
    (
        included("minilm_small_none_avg") | {"tuning": {"variants": {"small": {"method": "compacter", "division": 7}}}},
        "tuning.variants.small.division: 7 does not divide 384 and 48, the widths of the encoder of minilm and of "
        "its adapters (of minilm_small_none_avg)",
    ),
    (
        {"tuning": {"adapter": {"reduction_factor": 400}}},
        f"tuning.adapter.reduction_factor: 400 is more than 384, the width of the encoder of vlminilm (of {ADAPTER})",
    ),
    (
        included("minilm_hyperformer_none_avg") | {"tuning": {"hyperformer": {"reduction_factor": 400}}},
        "tuning.hyperformer.reduction_factor: 400 is more than 384, the width of the encoder of minilm "
        "(of minilm_hyperformer_none_avg)",
    ),
    (
        included("minilm_lradapter_none_avg") | {"tuning": {"lradapter": {"rank": 49}}},
        "tuning.lradapter.rank: 49 is more than 48, the smaller side of the matrices, for the encoder of "
        "minilm (of minilm_lradapter_none_avg)",
    ),
    (
        included("minilm_compacter_none_avg") | {"tuning": {"compacter": {"division": 2, "rank": 25}}},
        "tuning.compacter.rank: 25 is more than 24, the smaller side of the matrices, for the encoder of "
        "minilm (of minilm_compacter_none_avg)",
    ),
    (
        {"tuning": {"lora": {"rank": 385}}},
        "tuning.lora.rank: 385 is more than 384, the smaller side of the matrices, for the encoder of "
        f"vlminilm (of {LORA})",
    ),
    (
        {"models": {"vlminilm": {"visual": {"tokens": [3, 8]}}}},
        "models.vlminilm.visual: tokens [3, 8] exceed grid [7, 7], from which they are pooled; set fewer",
    ),
    (
        {"models": {"t5": {"text": {"sizes": {"positions": 512}}}}},
        "models.t5.text: sizes.positions does not apply to t5; remove it",
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
    included("minilm_zs_none_concat-last-6"),
    {"embedding": {"question_tokens": 512, "passage_tokens": 512}},
    ONLY_BART | {"embedding": {"passage_tokens": 1024}, "ablations": None},
    included("minilm_compacter_none_avg") | {"tuning": {"compacter": {"division": 3, "rank": 16}}},
    included("minilm_lradapter_none_avg") | {"tuning": {"lradapter": {"rank": 48}}},
    {"models": {"vlminilm": {"visual": {"tokens": [7, 7]}}}, "tuning": {"lora": {"rank": 384}}},
    {"models": {"vlminilm": {"text": {"sizes": None}}, "minilm": {"text": {"sizes": None}}}}
    | {"embedding": {"question_tokens": 9999}},
]


@pytest.mark.parametrize("change", RIGHT, ids=str)
def test_what_is_no_mistake_stays_allowed(changed, change):
    changed(change)


def test_what_a_model_states_of_its_sizes_is_not_what_a_result_is_known_by(changed):
    stated, none = changed({}), changed({"models": {"vlminilm": {"text": {"sizes": None}}}})
    experiment = Experiment.parse(ADAPTER)
    assert stated.models["vlminilm"].text.sizes != none.models["vlminilm"].text.sizes
    assert settings(stated, experiment) == settings(none, experiment)
    digests = [(layout := Layout(config, Path())).digest(layout.made("table")) for config in (stated, none)]
    assert digests[0] == digests[1]
    job = Layout(stated, Path()).job("train", {"experiment": ADAPTER})
    assert job.resources["sizes"] == {"layers": 6, "positions": 512, "width": 384}
    assert "sizes" not in Layout(none, Path()).job("train", {"experiment": ADAPTER}).resources


@pytest.fixture
def own(tmp_path, monkeypatch, parts):
    """Makes the layout of a config with weights of one's own, `sizes` stated, in a folder where they lie."""
    for name in ("sources", "downloads"):
        (tmp_path / "config").mkdir(exist_ok=True)
        (tmp_path / f"config/{name}.yaml").symlink_to(Path(f"config/{name}.yaml").absolute())
    monkeypatch.chdir(tmp_path)
    config = {"num_hidden_layers": 3, "max_position_embeddings": 40, "hidden_size": 24}
    Path("mine").mkdir()
    Path("mine/config.json").write_text(json.dumps(config))

    def layout(name="own_zs_none_avg", tokens=40, **sizes):
        text = {"architecture": "bert", "separator": ".", "weights": {"path": "mine"}, "sizes": sizes}
        change = {"models": {"own": {"kind": "text", "text": text}}, "fusions": {}, "ablations": None}
        change |= {"grid": {"include": [name]}, "embedding": {"question_tokens": 8, "passage_tokens": tokens}}
        return Layout(check([*parts, (OWN, change)]), Path())

    return layout


def test_weights_of_ones_own_that_are_there_say_themselves_what_they_are(own):
    own("own_zs_none_concat-last-3")
    own(layers=3, positions=40, width=24)
    for how, message in (
        ({"name": "own_zs_none_concat-last-4"}, "grid.include: own_zs_none_concat-last-4: pooling concat-last-4 needs"),
        ({"tokens": 41}, "embedding.passage_tokens: 41 tokens, but the encoder of own has positions for 40"),
        ({"layers": 4}, r"models.own.text.sizes.layers: 4, but mine/config.json has 3; correct it"),
        ({"positions": 512}, r"models.own.text.sizes.positions: 512, but mine/config.json has 40; correct it"),
    ):
        with pytest.raises(InputError, match=rf"^{message}"):
            own(**how)
    Path("mine/config.json").unlink()
    own(tokens=41)


TRAINED = {"experiments": {"vlminilm_adaptor_none_avg": {}}}
RRF = {"runs": ["bm25_zs_none_none", "efnet_zs_none_concat"], "method": "rrf", "constant": 60}
GUESSED = [
    ({"retreival": {}}, "retrieval"),
    ({"training": {"defaults": {"stepz": 3}}}, "steps"),
    ({"datasets": {"sample": {"source": {"sample": {"image_sizes": 3}}}}}, "image_size"),
    ({"evaluation": {"correction": "holmes"}}, "holm"),
    ({"tuning": {"lorra": {}}}, "lora"),
    ({"tuning": {"variants": {"x": {"method": "adaptor"}}}}, "adapter"),
    (product(model="minlm"), "minilm"),
    (product(model="minilm", tuning="lorra"), "lora"),
    (product(model="minilm", prefix="vqaa"), "vqa"),
    (product(model="minilm", pooling=["avg", "1tokens"]), "1token"),
    (included("minlm_zs_none_avg"), "minilm"),
    (included("minilm_lorra_none_avg"), "lora"),
    (included("minilm_zs_vqaa_avg"), "vqa"),
    (included("minilm_zs_none_concat-lst-2"), "concat-last-N"),
    ({"dataset": "sampel"}, "sample"),
    ({"datasets": {"sample": {"knowledge_base": "sampel"}}}, "sample"),
    ({"ablations": {"of": "vlminilm_adaptor_none_avg", "kinds": ["no-text"]}}, ADAPTER),
    ({"training": TRAINED}, ADAPTER),
    ({"training": {"tuning": {"lorra": {}}}}, "lora"),
    ({"training": {"experiments": {LORA: {"start": "vlminilm_fulll_none_avg"}}}}, FULL),
    ({"fusions": {"f": RRF}}, "effnet_zs_none_concat"),
    ({"models": {"effnet": {"backbone": "efnet"}}}, "effnet"),
    (of_adapter(tasks={"t": {"kind": "viquae", "dataset": "sampel"}}), "sample"),
    ({"training": {"experiments": {ADAPTER: {"negatives": {"model.minilm_zs_none_avgg": 1}}}}}, "minilm_zs_none_avg"),
]


@pytest.mark.parametrize(("change", "meant"), GUESSED, ids=[meant for _, meant in GUESSED])
def test_a_name_near_a_known_one_is_answered_by_that(changed, change, meant):
    with pytest.raises(InputError) as caught:
        changed(change)
    assert f"did you mean {meant!r}?" in str(caught.value), caught.value
    assert "\n" not in str(caught.value)


NAMED = {
    "dataset": lambda name, parts: {"datasets": {name: parts[1][1]["datasets"]["sample"]}},
    "model": lambda name, _: {"models": {name: {"kind": "lexical"}}},
    "prefix": lambda name, _: {"prefixes": {name: "x:"}},
    "variant": lambda name, _: {"tuning": {"variants": {name: {"method": "lora"}}}},
    "fusion": lambda name, _: {"fusions": {name: {**RUNS, "method": "rrf", "constant": 60}}},
    "run": lambda name, _: {"runs": {name: {"validation": "a", "test": "b"}}},
    "table": lambda name, _: {"table": name},
    "backbone": lambda name, parts: {"backbones": {name: parts[0][1]["backbones"]["effnet"]}},
    "pretraining": lambda name, _: {"training": {"pretraining": {name: {"tuning": "full"}}}},
    "experiment": lambda name, _: {"training": {"experiments": {f"{name}_zs_none_avg": {}}}},
    "task": lambda name, _: of_adapter(tasks={name: {"kind": "viquae"}}),
}


@pytest.mark.parametrize("kind", NAMED)
def test_a_name_that_no_path_could_hold_is_refused_in_words(changed, parts, kind):
    for name in ("a.b", "a b", "A", "-a", "../a", "a/b", "", "a\n", "{a}", "a|b", "a'", "$a", "é"):
        with pytest.raises(InputError, match="is not a name of letters a-z") as caught:
            changed(NAMED[kind](name, parts))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", NAMED)
def test_a_name_of_all_that_is_allowed_is_taken(changed, parts, kind):
    name = {"table": "t-2_b", "task": "a_2"}.get(kind, "a+2-b")
    change = NAMED[kind](name, parts)
    if kind == "experiment":
        change = {"models": {name: parts[0][1]["models"]["minilm"]}, **included(f"{name}_zs_none_avg"), **change}
    changed(change)


ODD = "my data's (1)"
ODD_EXPERIMENT = "own+x_ad+x_v+a_avg"


def odd_config(parts):
    """A small grid whose names hold all that they may, and whose paths hold what shells and Snakemake treat apart."""
    bert = {"architecture": "bert", "separator": ".", "weights": {"path": "weights/my own $HOME & more"}}
    files = {"questions": {"path": ODD}, "wikipedia": {"path": ODD}, "images": {"path": f"{ODD}/images; two"}}
    joint = {"kind": "joint", "backbone": "eff+net", "visual": {"grid": [7, 7], "tokens": [3, 3]}, "text": bert}
    return {
        "dataset": "a+b-c",
        "table": "t_a-b",
        "datasets": {"a+b-c": {"source": files, "passages": {"unit": "tokens", "tokens": 100}}},
        "models": {"own+x": joint},
        "backbones": {"eff+net": {"family": "effnet", "dim": 4, "weights": {"path": "weights/eff net.pth"}}},
        "prefixes": {"none": "", "v+a": "x"},
        "tuning": {"variants": {"ad+x": {"method": "adapter"}}},
        "grid": {"include": [RUNS["runs"][0], ODD_EXPERIMENT]},
        "ablations": {"of": ODD_EXPERIMENT, "kinds": ["no-image"]},
        "fusions": {"f+g": {"runs": [RUNS["runs"][0], ODD_EXPERIMENT, "r+s"], "method": "rrf", "constant": 60}},
        "runs": {"r+s": {"validation": f"{ODD}/run *.trec", "test": f"{ODD}/run *.trec"}},
        "training": {"defaults": {"steps": 10, "validate_every": 5}},
    }


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (
            {"models": {"minilm": {"text": {"weights": {"package": None, "path": "{a}"}}}}},
            "models.minilm.text.weights.path",
        ),
        ({"models": {"vlt5": {"text": {"joint": {"path": "{a}"}}}}}, "models.vlt5.text.joint.path"),
        ({"runs": {"r": {"validation": "a", "test": "{a}"}}}, "runs.r.test"),
        (
            {
                "datasets": {
                    "sample": {"source": {"sample": None, "questions": {"path": "{a}"}, "wikipedia": {"path": "b"}}}
                }
            },
            "datasets.sample.source.questions: field 'path'",
        ),
    ],
)
def test_a_path_that_snakemake_would_take_for_a_pattern_is_refused(changed, change, field):
    with pytest.raises(InputError, match=rf"{field}: '{{a}}' contains braces, which Snakemake reads as wildcards"):
        Layout(changed(change), Path())


def odd_grid(path, parts):
    """A folder with that grid and all its files, and its `Folder`."""
    for name in ("workflow", "rules", "envs", "config", "profiles", "vlret"):
        shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("__pycache__"))
    own = [f"{split}.jsonl" for split in ("train", "validation", "test", "wikipedia")]
    own = [f"{ODD}/{name}" for name in (*own, "images; two/a.png", "run *.trec")]
    for name in (*own, "weights/my own $HOME & more/model.safetensors", "weights/eff net.pth"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    folder = Folder(path)
    folder.write(odd_config(parts))
    return folder


@pytest.mark.slow
def test_names_and_paths_of_all_characters_reach_every_command(tmp_path, parts):
    folder = odd_grid(tmp_path / "a grid's $HOME", parts)
    folder.snakemake("--cores", "8", target="results/t_a-b.tex")
    assert (folder.path / "results/a+b-c/metrics/f+g.json").is_file()
    assert folder.planned(target="results/t_a-b.tex") == {}


@pytest.mark.slow
def test_a_missing_file_of_ones_own_is_asked_for_by_its_name(tmp_path, parts):
    folder, missing = odd_grid(tmp_path / "grid", parts), Path("weights/eff net (2).pth")
    output = folder.snakemake("--cores", "1", target=f"results/by-hand/{missing}", fails=True)
    assert output.splitlines()[-1].startswith(f"vlret: error: {missing}: does not exist, and nothing fetches it")


def test_every_word_of_a_jobs_options_is_quoted():
    odd = [File(f"a's $HOME/{name} & more", known=True) for name in ("one", "(two)")]
    job = Job("data x", {"paths": odd, "named": {"n": odd[0]}}, named={"tag": "t; u"}, resources={"limits": {"a b": 1}})
    words = ["--paths", *odd, "--named", f"n={odd[0]}", "--tag", "t; u", "--limits", '{"a b": 1}']
    assert shlex.split(job.options()) == words


def test_every_path_of_a_shell_line_is_quoted():
    text = "".join(path.read_text() for path in sorted(Path("rules").glob("*.smk")))
    lines = re.findall(r"""^ +["'](vlret .*)["']$""", text, re.MULTILINE)
    assert len(lines) > 20
    for line in lines:
        fields = set(re.findall(r"{([^}]+)}", line))
        assert all(field.endswith(":q") for field in fields - {"params.options"}), line
        assert line.count("$(dirname") == line.count('"$(dirname'), line


def test_the_questions_are_read_with_the_largest_batch_in_mind(changed):
    def batch(change):
        layout = Layout(changed(change), Path())
        job = layout.job("questions", {"dataset": "sample"})
        assert ("--batch" in job.options()) == ("batch" in job.resources)
        return job.resources.get("batch")

    assert batch({}) == (32, "training.batch_size", "vlminilm_visual_none_avg")
    tasks = {"viquae": {"kind": "viquae"}, "other": {"kind": "match_article", "batch_size": 40}}
    large = {"training": {"experiments": {LORA: {"tasks": tasks}}}}
    assert batch(large) == (40, "training.tasks.other.batch_size", LORA)
    assert batch({"grid": {"include": RUNS["runs"]}, "ablations": None}) is None


@pytest.fixture
def read_questions(own, changed):
    """Writes a report of so many entities beside the sample's questions, as their job would have."""

    def write(entities):
        layout = Layout(changed({}), Path())
        table = layout.made("questions", dataset="sample")
        Path(table).mkdir(parents=True, exist_ok=True)
        write_note(Path(table), {"digest": layout.digest(table)})
        write_json(Path("results/sample/data/questions.json"), {"train": {"questions": 99, **entities}})

    return write


def test_a_batch_of_more_questions_than_there_are_entities_is_refused_before_any_job(read_questions, changed):
    def check(**training):
        change = {"training": {"defaults": training}}
        check_batches(Layout(changed(change), Path()))

    check()
    read_questions({"entities": 31})
    with pytest.raises(InputError, match=r"^training\.batch_size: 32 questions .* have 31 .*; set it to 31 or less$"):
        check()
    check(batch_size=31)
    read_questions({})
    check()


def test_a_report_of_other_questions_than_the_configs_says_nothing_of_them(read_questions, changed):
    read_questions({"entities": 31})
    more = {"datasets": {"sample": {"source": {"sample": {"articles": 2000}}}}}
    check_batches(Layout(changed(more), Path()))


@pytest.mark.slow
def test_a_batch_that_is_too_large_stops_a_dry_run_and_new_data_of_ones_own_do_not(tmp_path, parts):
    folder = odd_grid(tmp_path / "grid", parts)
    folder.snakemake("--cores", "8", target="results/t_a-b.tex")
    report = folder.path / "results/a+b-c/data/questions.json"
    report.write_text(json.dumps({"train": {"entities": 3}}))
    said = folder.snakemake("--dry-run", target="results/t_a-b.tex", fails=True)
    assert f"have 3 (of {ODD_EXPERIMENT}); set it to 3 or less" in said
    after = report.stat().st_mtime + 1
    os.utime(folder.path / ODD / "train.jsonl", (after, after))
    folder.snakemake("--dry-run", target="results/t_a-b.tex")


CPU = "__version__ = '2.15.0+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n"
CUDA = "__version__ = '2.15.0'\ncuda: Optional[str] = '13.2'\nhip: Optional[str] = None\n"


@pytest.mark.parametrize(
    ("version", "devices", "told"),
    [
        (CPU, ["dev/nvidia0"], "torch is built without CUDA"),
        (CUDA, ["dev/null"], "this machine has none"),
        (None, ["dev/null"], "this machine has none"),
        (CUDA, ["dev/nvidia0"], None),
        (CUDA, ["dev/dxg"], None),
        (CUDA.replace("cuda", "x").replace("hip", "cuda").replace("x", "hip"), ["dev/kfd"], None),
        ("another = 'form'", ["dev/nvidiactl"], None),
        (None, ["dev/nvidia0"], None),
    ],
)
def test_whether_there_is_a_gpu_is_told_without_torch(tmp_path, version, devices, told):
    for path, text in (*((device, "") for device in devices), *([("torch/version.py", version)] if version else [])):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    assert without_gpu([str(tmp_path)], tmp_path) == told


@pytest.mark.slow
def test_fp16_without_a_gpu_stops_a_run_before_its_first_job(tmp_path, parts):
    folder, target = odd_grid(tmp_path / "grid", parts), "results/t_a-b.tex"
    (folder.path / "torch").mkdir()
    (folder.path / "torch/__init__.py").touch()
    (folder.path / "torch/version.py").write_text(CPU)
    folder.config(training__defaults__precision="fp16")
    assert folder.planned(target=target)["train"] == 1
    folder.snakemake("--cores", "8", target="results/a+b-c/metrics/bm25_zs_none_none.json")
    said = folder.snakemake("--cores", "8", target=target, fails=True)
    message = "training.precision: fp16 needs a GPU, and torch is built without CUDA; use bf16 or fp32, or a machine "
    assert f"{message}that has one (of {ODD_EXPERIMENT})" in said
    assert not (folder.path / "results/a+b-c/features").exists()
    folder.snakemake("--cores", "8", "--touch", target="results/a+b-c/metrics/bm25_zs_none_none.json")
