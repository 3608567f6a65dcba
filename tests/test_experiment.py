from pathlib import Path

import pytest

from vlret.config import check, lay_over, load_config, read
from vlret.encoders.pooling import pooling_of
from vlret.experiment import SENSIBLE, Experiment, grid, rows, settings, trained
from vlret.files import InputError
from vlret.layout import Layout
from vlret.settings import TUNING, Training

FILES = ["config/models.yaml", "config/config.yaml"]
OWN = "own.yaml"
ADAPTER = "vlminilm_adapter_none_avg"
SEPARATED = {"relevance": {"link": "provenance", "titles": "[SEP]"}}
SPLIT = {"train": 0.6, "validation": 0.2, "test": 0.2}
ENTITIES = {"entities": {"path": "e"}, "images": {"path": "i"}, "of": "sample", "without": ["sample"]} | {
    "least_passages": 2,
    "split": SPLIT,
}
UNPOOLED = {"prefix": "none", "pooling": "none"}


@pytest.fixture(scope="module")
def parts():
    """The files of the sample's config as `check` takes them."""
    return [(file, read(file)) for file in FILES]


@pytest.fixture(scope="module")
def config(parts):
    return check(parts)


@pytest.fixture(scope="module")
def changed(parts):
    """The config with other files laid over it."""
    return lambda *changes: check([*parts, *((OWN, change) for change in changes)])


def test_a_name_goes_around():
    experiment = Experiment("vlt5", "zs", "vqa", "sum-last-4")
    assert experiment.name == "vlt5_zs_vqa_sum-last-4"
    assert Experiment.parse(experiment.name) == experiment


@pytest.mark.parametrize("name", ["vlt5_zs_vqa", "vlt5_zs_vqa_avg_x", "VLT5_zs_vqa_avg", "vlt5__vqa_avg", "a_b_c_../d"])
def test_a_bad_name_is_refused(name):
    with pytest.raises(InputError, match="model_tuning_prefix_pooling"):
        Experiment.parse(name)


def test_the_files_of_the_config_are_read_with_the_models_first(config):
    assert load_config(FILES[1:]) == config


def test_the_grid_keeps_the_order_and_leaves_out_nonsense(changed):
    block = {"model": ["effnet", "vlminilm"], "tuning": ["zs", "full"], "prefix": ["none", "vqa"], "pooling": "avg"}
    include = ["bm25_zs_none_none", "vlminilm_zs_none_avg"]
    declared = {"product": [block], "exclude": [{"tuning": "full", "prefix": "none"}], "include": include}
    assert [e.name for e in grid(changed({"grid": declared, "fusions": {}, "ablations": None}))] == [
        "effnet_zs_none_avg",
        "vlminilm_zs_none_avg",
        "vlminilm_zs_vqa_avg",
        "vlminilm_full_vqa_avg",
        "bm25_zs_none_none",
    ]


def test_rows_are_experiments_then_fusions_then_ablations(config):
    names = [row.name for row in rows(config)]
    assert names == [e.name for e in grid(config)] + ["bm25-effnet", f"{ADAPTER}.no-text", f"{ADAPTER}.no-image"]
    fusion, ablation = rows(config)[-3], rows(config)[-1]
    assert fusion.runs == ("bm25_zs_none_none", "effnet_zs_none_concat")
    assert fusion.note == "fusion of bm25_zs_none_none and effnet_zs_none_concat"
    assert (ablation.parts, ablation.note) == (Experiment.parse(ADAPTER), "no-image")


def test_every_part_that_makes_sense_exists():
    for kind, (_, poolings) in SENSIBLE.items():
        if kind != "lexical":
            for pooling in poolings:
                assert pooling_of(pooling.replace("-N", "-2"))
    assert {kind for method in TUNING.values() for kind in method.KINDS} == set(SENSIBLE)


WRONG = [
    ({"dataset": "a_b"}, "dataset: 'a_b'"),
    ({"seed": "x"}, "seed: 'x' is not of type 'integer'"),
    (
        {"training": {"defaults": {"stepz": 3}}},
        "training.defaults: unknown key 'stepz'; did you mean 'steps'",
    ),
    ({"training": {"experiments": {"vlminilm_full_vqa_1token": {}}}}, "vlminilm_full_vqa_1token: not in the grid"),
    ({"grid": {"include": ["effnet_zs_vqa_avg"]}}, "prefix 'vqa' is invalid for a model of kind image"),
    ({"grid": {"include": ["gpt_zs_none_avg"]}}, "gpt_zs_none_avg: unknown model"),
    (
        {"grid": {"include": ["minilm_zs_none_sum-last-0"]}},
        "pooling 'sum-last-0' is invalid for a model of kind text",
    ),
    ({"grid": {"include": ["minilm_zs_none_decoder"]}}, "pooling 'decoder': BERT has no decoder"),
    ({"grid": {"exclude": [{"model": "bm25", "prefix": "vqa"}]}}, "grid.exclude.0: excludes nothing"),
    ({"grid": {"product": [{"model": "bm25", "tuning": "zs", "prefix": "x", "pooling": "none"}]}}, "unknown x"),
    (
        {"fusions": {"f": {"runs": ["a_b_c_d", "e"], "method": "interpolation", "normalisation": "zmuv", "step": 0.1}}},
        "fusions.f.runs: a_b_c_d, e",
    ),
    ({"fusions": {"f": {"runs": ["a", "b"], "step": 0.1}}}, "fusions.f: missing 'method'"),
    ({"fusions": {"f": {"runs": ["a", "b"], "method": "rrf"}}}, "fusions.f: missing 'constant'"),
    (
        {"fusions": {"f": {"runs": ["a", "b"], "method": "rrf", "constant": 60, "step": 0.1}}},
        "fusions.f: unknown key 'step'; known: constant, method, runs",
    ),
    ({"evaluation": {"test": "wilcoxon"}}, "evaluation.test: 'wilcoxon' is not one of"),
    ({"evaluation": {"correction": "bonferroni"}}, "evaluation.correction: 'bonferroni' is not one of"),
    ({"ablations": {"of": "minilm_zs_none_avg"}}, "ablations: missing 'kinds'"),
    (
        {"ablations": {"of": "minilm_zs_none_avg", "kinds": ["no-text"]}},
        "ablations.of: minilm_zs_none_avg does not see both image and text",
    ),
    (
        {"datasets": {"sample": {"source": {"sample": {"split": {"train": 0.7}}}}}},
        "datasets.sample.source.sample.split: the shares add up to 1.1, not 1",
    ),
    ({"dataset": "simple"}, "dataset: 'simple' is not one of datasets with questions: sample"),
    ({"datasets": {"sample": {"knowledge_base": "x"}}}, "datasets.sample.knowledge_base: 'x' is not a dataset with"),
    ({"datasets": {"x": {"source": {}}}}, "datasets.x.source: missing 'questions'"),
    (
        {"datasets": {"x": {"source": {"questions": "viquae_dataset"}}}},
        "datasets.x: source.wikipedia or knowledge_base",
    ),
    ({"datasets": {"x": {"source": {"questions": 3}}}}, "datasets.x.source.questions: 3 is not"),
    (
        {"datasets": {"x": {"source": {"questions": "q", "wikipedia": "w"}, "knowledge_base": "sample"}}},
        "datasets.x.source.wikipedia: its articles are those of sample",
    ),
    ({"datasets": {"x": {"source": {"questions": "q", "wikipedia": "w"}}}}, "datasets.x: its passages are cut"),
    (
        {"datasets": {"x": {"source": {"questions": "q"}, "knowledge_base": "sample"} | SEPARATED}},
        r"datasets.x.relevance.titles: '\[SEP\]', but sample, whose passages these are, has ''",
    ),
    ({"datasets": {"x": {"source": {"entities": "e"}}}}, "datasets.x.source: missing 'images'"),
    ({"datasets": {"downloads": {"source": ENTITIES}}}, "datasets.downloads: results/downloads is for something else"),
    ({"datasets": {"x": {"source": ENTITIES | {"of": "y"}}}}, "datasets.x.source.of: 'y' is not a dataset with"),
    (
        {"dataset": "x", "datasets": {"x": {"source": ENTITIES}}},
        "dataset: 'x' is not one of datasets with questions: sample",
    ),
    ({"lexical": {"b": {"stop": 2}}}, "b lies between 0 and 1"),
    ({"models": {"x": {"kind": "image"}}}, "models.x: missing 'backbone', 'visual'"),
    (
        {"models": {"effnet": {"backbone": "clip"}}},
        "models.effnet.backbone: 'clip' is not one of effnet",
    ),
    (
        {"training": {"experiments": {"vlminilm_full_none_avg": {"start": "minilm_full_none_avg"}}}},
        "training.start: minilm_full_none_avg is no experiment of this grid with the same model",
    ),
    (
        {"training": {"experiments": {"vlminilm_full_none_avg": {"start": "vlminilm_full_none_avg"}}}},
        "training.start: vlminilm_full_none_avg itself starts from another experiment",
    ),
    ({"training": {"defaults": {"learning_rate": "5e-4"}}}, "learning_rate: '5e-4' is text in YAML: write 5.0e-04"),
    ({"training": {"tuning": {"lorra": {}}}}, "training.tuning.lorra: no tuning method or variant; .*known: .*lora"),
    (
        {"training": {"experiments": {ADAPTER: {"warmup_steps": 46}}}},
        f"training.warmup_steps: 46 is more than steps, 45 \\(of {ADAPTER}\\)",
    ),
    (
        {"training": {"experiments": {ADAPTER: {"negatives": {}}}}},
        "training.negatives: {} has no miner for the negatives of task viquae; set negatives_per_question to 0",
    ),
    (
        {"grid": {"include": [ADAPTER], "product": [{"model": "bm25", "tuning": "full"} | UNPOOLED]}},
        "grid.product.0: yields no experiment: tuning 'full' is invalid for a model of kind lexical",
    ),
    (
        {"grid": {"include": [ADAPTER], "product": [{"model": "vlminilm", "tuning": "lorra"} | UNPOOLED]}},
        "grid.product.0.tuning: unknown lorra; .*known: zs, .*lora",
    ),
    (
        {"grid": {"include": ["vlminilm_lorra_none_avg"]}},
        "grid.include: vlminilm_lorra_none_avg: unknown tuning 'lorra'; .*known: zs, .*lora",
    ),
    (
        {"fusions": {"f": {"runs": ["bm25_zs_none_none"] * 2, "method": "rrf", "constant": 60}}},
        "fusions.f.runs: a run is fused with itself",
    ),
    ({"grid": {}}, "grid: no experiment is left"),
    ({"tuning": {"variants": {"lora": {"method": "lora"}}}}, "tuning.variants.lora: this is a method's own name"),
    ({"prefixes": {"none": "x"}}, "prefixes.none: this is the empty prefix"),
    ({"evaluation": {"metrics": ["recall@5"]}}, "evaluation.metrics.0: 'recall@5'"),
    ({"evaluation": {"columns": ["mrr@7"]}}, "evaluation.columns: mrr@7 not among evaluation.metrics"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_config_is_one_line_with_file_and_field(changed, change, message):
    with pytest.raises(InputError, match=rf"^{OWN}: .*{message}") as caught:
        changed(change)
    assert "\n" not in str(caught.value)


def test_the_file_that_holds_the_key_is_named(parts):
    def blamed(*changes):
        with pytest.raises(InputError) as caught:
            check([*parts, *((f"{number}.yaml", change) for number, change in enumerate(changes))])
        return str(caught.value)

    assert blamed({"seedd": 1}, {"dataset": "sample"}).startswith("0.yaml: top level: unknown key 'seedd'")
    assert blamed({"seed": "x"}, {"dataset": "sample"}).startswith("0.yaml: seed: 'x'")
    assert blamed({"features": {"dtype": "int8"}}, {"features": {"shards": 2}}).startswith("0.yaml: features.dtype")
    assert blamed({"training": {"tuning": {"full": {"gpus": 0}}}}, {"training": {}}).startswith(
        "0.yaml: training.tuning."
    )
    assert blamed({"grid": {"include": ["minilm_zs_none_avg"]}}).startswith(
        "config/config.yaml: fusions.bm25-effnet.runs"
    )
    assert blamed({"models": {"effnet": {"dim": 3}}}).startswith("0.yaml: models.effnet: unknown key 'dim'")
    assert blamed({"models": None}) == "config/models.yaml + config/config.yaml + 0.yaml: top level: missing 'models'"
    with pytest.raises(InputError, match=r"^config/models\.yaml \+ --config: top level: missing 'dataset', 'datasets'"):
        load_config([], given={"seed": 1})


def test_a_value_of_the_command_line_counts_for_more_than_all_files():
    assert load_config(FILES[1:], given={"seed": 3}).seed == 3
    with pytest.raises(InputError, match=r"^--config: seed: 'x' is not of type 'integer'"):
        load_config(FILES[1:], given={"seed": "x"})


def test_a_config_that_is_no_yaml_is_named(tmp_path):
    def refused(text):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(InputError) as caught:
            read(tmp_path / "a.yaml")
        return str(caught.value).removeprefix(str(tmp_path / "a"))

    assert refused("b: 1\na: [").startswith(".yaml, line 2: not valid YAML")
    assert refused("a: 1\nb: {c: 1, c: 2}") == ".yaml, line 2: not valid YAML: duplicate key 'c'"
    assert refused("- a") == ".yaml: expected a mapping of keys, found list"
    with pytest.raises(InputError, match=r"b\.yaml: no such file"):
        read(tmp_path / "b.yaml")


def test_a_number_without_a_dot_is_said_to_be_text(parts, tmp_path):
    (tmp_path / "a.yaml").write_text("training: {defaults: {learning_rate: 5e-4}}")
    with pytest.raises(InputError, match=r"'5e-4' is text in YAML: write 5\.0e-04"):
        check([*parts, ("a.yaml", read(tmp_path / "a.yaml"))])


def test_mappings_are_laid_over_key_by_key_and_null_takes_a_key_away():
    low = {"a": {"b": 1, "c": {"d": 2}}, "e": [1, 2], "f": 3}
    assert lay_over(low, {"a": {"c": {"g": 4}}, "e": [5]}) == {"a": {"b": 1, "c": {"d": 2, "g": 4}}, "e": [5], "f": 3}
    assert lay_over(low, {"a": {"c": None}, "f": None, "x": None}) == {"a": {"b": 1}, "e": [1, 2]}
    assert lay_over({}, {"a": {"b": None, "c": 1}}) == {"a": {"c": 1}}, "nothing is left to say that a key is nothing"
    assert low == {"a": {"b": 1, "c": {"d": 2}}, "e": [1, 2], "f": 3}, "and nothing is changed in place"


@pytest.mark.parametrize("key", ["ablations", "fusions", "grid", "negatives", "tasks"])
def test_a_mapping_of_what_is_wanted_is_replaced_whole(key):
    assert lay_over({key: {"a": 1}}, {key: {"b": 2}}) == {key: {"b": 2}}
    assert lay_over({"x": {key: {"a": 1}}}, {"x": {key: {}}}) == {"x": {key: {}}}


def test_what_a_later_file_does_not_want_is_gone(config, changed):
    assert changed({"fusions": {}}).fusions == changed({"fusions": None}).fusions == {}
    assert changed({"fusions": {"bm25-effnet": None}}).fusions == {}
    assert changed({"ablations": None}).ablations is changed({"ablations": {}}).ablations is None
    assert changed({"training": {"tuning": {"full": None}}}).training.tuning == {}
    assert changed({"training": {"defaults": {"negatives": {"random": 1}}}}).training.defaults.negatives == {
        "random": 1
    }
    assert config.training.defaults.negatives == {"bm25": 0.5, "article": 0.5}
    seed = changed({"seed": 3}, {"seed": None}).seed
    assert seed == config.seed == 0, "taken away, it is the default"


def test_settings_come_from_defaults_then_method_then_experiment(config, changed):
    experiment = Experiment.parse("vlminilm_full_none_avg")
    own = {"steps": 13, "negatives": {"random": 1}}
    resolved = settings(changed({"training": {"experiments": {experiment.name: own}}}), experiment).training
    assert resolved.steps == 13
    assert resolved.learning_rate == config.training.tuning["full"].learning_rate
    assert resolved.negatives == {"random": 1}
    assert resolved.batch_size == config.training.defaults.batch_size


def test_one_experiments_parameter_leaves_the_others_settings_alone(config, changed):
    other = changed({"training": {"experiments": {"vlminilm_full_none_avg": {"steps": 13}}}})
    experiments = [experiment for experiment in grid(config) if experiment.model != "bm25"]
    differing = [e.name for e in experiments if settings(config, e) != settings(other, e)]
    assert differing == ["vlminilm_full_none_avg"]


def test_zero_shot_does_not_depend_on_training(config, changed):
    zero_shot = Experiment.parse("vlminilm_zs_none_avg")
    assert settings(changed({"training": {"defaults": {"steps": 13}}}), zero_shot) == settings(config, zero_shot)


@pytest.mark.parametrize(
    ("experiments", "message"),
    [
        (
            {"vlminilm_lora_none_avg": {"negatives": {"model.minilm_full_none_avg": 1}}},
            "training: miner model.minilm_full_none_avg: the grid has no experiment minilm_full_none_avg",
        ),
        (
            {"vlminilm_lora_none_avg": {"negatives": {"image.minilm_zs_none_avg": 1}}},
            "training: miner image.minilm_zs_none_avg: minilm_zs_none_avg does not rank by images only",
        ),
        (
            {"vlminilm_lora_none_avg": {"positives": "model.vlminilm_lora_none_avg"}},
            "training: vlminilm_lora_none_avg depends on a run that depends on",
        ),
        (
            {
                "vlminilm_lora_none_avg": {"negatives": {"model.vlminilm_ia3_none_avg": 1}},
                "vlminilm_ia3_none_avg": {"negatives": {"model.vlminilm_full_none_avg": 1}},
                "vlminilm_full_none_avg": {"start": "vlminilm_lora_none_avg"},
            },
            "training: vlminilm_(full|ia3|lora)_none_avg depends on a run that depends on",
        ),
        ({"vlminilm_lora_none_avg": {"negatives": {"model": 1}}}, "training.experiments.*: 'model'"),
    ],
)
def test_miners_read_runs_that_are_there_and_do_not_wait_for_them(changed, experiments, message):
    with pytest.raises(InputError, match=message):
        changed({"training": {"experiments": experiments}})


def test_a_training_may_mine_from_what_another_training_made(changed):
    mined = {"negatives": {"model.vlminilm_full_none_avg": 1, "image.effnet_zs_none_concat": 2, "same-type": 1}}
    changed({"training": {"experiments": {"vlminilm_lora_none_avg": mined | {"positives": "bm25"}}}})
    assert Training(**mined, positives="bm25").miners() == [*mined["negatives"], "bm25"]
    assert Training(negatives={"bm25": 1}, positives="bm25").miners() == ["bm25"]
    assert Training(tasks={"images": {"kind": "match_image"}}).miners() == []


def with_variant(**variant):
    return {"tuning": {"variants": {"frozen": {"method": "adapter", **variant}}}}


def test_a_variant_of_a_tuning_method_is_that_method_with_other_settings(config, changed):
    trainings = {"adapter": {"steps": 15, "batch_size": 4}, "frozen": {"steps": 16}}
    include = {"include": [*(e.name for e in grid(config)), "vlminilm_frozen_none_avg", "minilm_frozen_none_avg"]}
    other = changed(with_variant(visual=False), {"grid": include, "training": {"tuning": trainings}})
    resolved = settings(other, Experiment.parse("vlminilm_frozen_none_avg"))
    assert resolved.tuning == config.tuning.adapter.model_copy(update={"visual": False})
    assert (resolved.training.steps, resolved.training.batch_size) == (16, 4)


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({"method": "x"}, "tuning.variants.frozen.method: 'x' is not one of"),
        ({"tokens": 3}, "tuning.variants.frozen: unknown key 'tokens'; known: .*reduction_factor"),
        ({"visual": 3}, "tuning.variants.frozen.visual: 3 is not of type 'boolean'"),
    ],
)
def test_a_variant_that_cannot_be_is_refused(changed, variant, message):
    with pytest.raises(InputError, match=rf"^{OWN}: {message}"):
        changed(with_variant(**variant))


def pretrained(parts, **tasks):
    """What makes of the config one with a pre-trained model, over another dataset too, in two rows of the grid."""
    models, sample = parts[0][1]["models"], parts[1][1]
    every = {"triviaqa": {"kind": "triviaqa", "dataset": "trivia", "negatives": {"bm25": 1}}, **tasks}
    include = [*sample["grid"]["include"], "vlminilm-mt_adapter_vqa_avg"]
    return {
        "datasets": {"trivia": {**sample["datasets"]["sample"], "lexical": {"b": 0.4, "k1": 0.9}}},
        "models": {"vlminilm-mt": {**models["vlminilm"], "pretraining": "multitask"}},
        "training": {"pretraining": {"multitask": {"tuning": "adapter", "steps": 17, "tasks": every}}},
        "grid": {**sample["grid"], "include": include},
    }


def test_a_tuned_model_starts_from_its_pre_training_which_is_the_zero_shot_experiment(parts, changed):
    other = changed(pretrained(parts, own={"kind": "viquae", "dataset": "sample"}))
    zero_shot, tuned = (Experiment.parse(f"vlminilm-mt_{tuning}_vqa_avg") for tuning in ("zs", "adapter"))
    assert zero_shot in trained(other)
    assert zero_shot not in grid(other)
    before, after = settings(other, zero_shot), settings(other, tuned)
    assert before.tuning == after.tuning == other.tuning.adapter
    assert before.model == after.model == settings(other, Experiment.parse(ADAPTER)).model
    assert before.training.steps == 17
    assert list(before.training.tasks) == ["triviaqa", "own"]
    assert before.training.start is None
    assert after.training.start == zero_shot.name
    assert list(after.training.tasks) == ["viquae"]
    assert before.training.parts("trivia") == ["questions", "passages", "qrels", "negatives.bm25"]
    assert before.training.miners("sample") == list(other.training.defaults.negatives), "of the dataset that is named"
    assert Layout(other, Path()).weights(tuned)["start"] == f"results/pretraining/checkpoints/{zero_shot.name}"


def test_a_pre_training_on_the_evaluated_dataset_too_belongs_to_that(parts, changed):
    other = changed(pretrained(parts, own={"kind": "viquae"}))
    zero_shot, tuned = (Experiment.parse(f"vlminilm-mt_{tuning}_vqa_avg") for tuning in ("zs", "adapter"))
    assert settings(other, zero_shot).training.miners() == list(other.training.defaults.negatives)
    assert Layout(other, Path()).weights(tuned)["start"] == f"results/sample/checkpoints/{zero_shot.name}"


@pytest.mark.parametrize(
    ("change", "tasks", "message"),
    [
        (
            {"training": {"pretraining": {"multitask": {"tuning": "lora"}}}},
            {},
            "pre-training with lora adds parameters",
        ),
        ({"training": {"pretraining": {"multitask": {"tuning": "zs"}}}}, {}, "tuning 'zs' does not train a model"),
        (
            {"training": {"pretraining": {"multitask": {"tuning": "lorra"}}}},
            {},
            "tuning 'lorra' does not train a model",
        ),
        (
            {"tuning": {"adapter": {"sharing": "multiple"}}},
            {},
            "training.start: vlminilm-mt_zs_vqa_avg has parameters for each of its tasks, and vlminilm-mt_adapter",
        ),
        ({"models": {"vlminilm-mt": {"pretraining": "x"}}}, {}, "models.vlminilm-mt.pretraining: 'x' is not one of"),
        ({}, {"own": {"kind": "viquae", "dataset": "x"}}, "training.tasks.own.dataset: 'x' is not one of"),
        (
            {},
            {"own": {"kind": "viquae", "dataset": "trivia", "negatives": {"model.minilm_zs_none_avg": 1}}},
            "training.tasks.own: miner model.minilm_zs_none_avg reads a run over sample, not over trivia",
        ),
        (
            {"training": {"pretraining": {"multitask": {"validate_every": 2}}}},
            {"own": {"kind": "viquae", "dataset": "trivia"}},
            "training.validate_every: no task of kind viquae on the evaluated dataset",
        ),
        ({"datasets": {"trivia": {"lexical": {"b": 2}}}}, {}, r"datasets.trivia.lexical.b: 2 is greater than"),
    ],
)
def test_a_pre_training_that_cannot_be_is_refused(parts, changed, change, tasks, message):
    with pytest.raises(InputError, match=message):
        changed(pretrained(parts, **tasks), change)
