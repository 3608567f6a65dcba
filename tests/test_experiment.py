import pytest

from vlret.encoders.pooling import pooling_of
from vlret.experiment import (
    SENSIBLE,
    Experiment,
    grid,
    load_config,
    merge,
    miners,
    read_weights,
    settings,
    task_parts,
    trained,
)
from vlret.files import InputError
from vlret.tuning.methods import METHODS
from vlret.validation import validate

SCHEMA = "config/schemas/config.schema.yaml"
FILES = ["config/models.yaml", "config/config.yaml"]
SEPARATED = {"relevance": {"link": "provenance", "titles": "[SEP]"}}
SPLIT = {"train": 0.6, "validation": 0.2, "test": 0.2}
ENTITIES = {"entities": {"path": "e"}, "images": {"path": "i"}, "of": "sample", "without": ["sample"]} | {
    "least_passages": 2,
    "split": SPLIT,
}


@pytest.fixture(scope="module")
def config():
    return load_config(FILES)


def test_a_name_goes_around():
    experiment = Experiment("vlt5", "zs", "vqa", "sum-last-4")
    assert experiment.name == "vlt5_zs_vqa_sum-last-4"
    assert Experiment.parse(experiment.name) == experiment


@pytest.mark.parametrize("name", ["vlt5_zs_vqa", "vlt5_zs_vqa_avg_x", "VLT5_zs_vqa_avg", "vlt5__vqa_avg", "a_b_c_../d"])
def test_a_bad_name_is_refused(name):
    with pytest.raises(InputError, match="model_tuning_prefix_pooling"):
        Experiment.parse(name)


def test_the_default_config_is_valid(config):
    validate(config, FILES, SCHEMA)


def test_the_grid_keeps_the_order_and_leaves_out_nonsense(config):
    block = {"model": ["effnet", "vlminilm"], "tuning": ["zs", "full"], "prefix": ["none", "vqa"], "pooling": "avg"}
    declared = merge(config, {"grid": {"include": ["bm25_zs_none_none", "vlminilm_zs_none_avg"]}})
    declared["grid"] |= {"product": [block], "exclude": [{"tuning": "full", "prefix": "none"}]}
    assert [experiment.name for experiment in grid(declared)] == [
        "effnet_zs_none_avg",
        "vlminilm_zs_none_avg",
        "vlminilm_zs_vqa_avg",
        "vlminilm_full_vqa_avg",
        "bm25_zs_none_none",
    ]


def test_every_part_that_makes_sense_exists():
    for kind, parts in SENSIBLE.items():
        if kind != "lexical":
            for pooling in parts["pooling"]:
                assert pooling_of(pooling.replace("-N", "-2"))
        assert set(parts["tuning"]) <= set(METHODS)


WRONG = [
    ({"dataset": "a_b"}, "dataset: 'a_b'"),
    ({"seed": "x"}, "seed: 'x' is not of type 'integer'"),
    ({"training": {"defaults": {"stepz": 3}}}, "training.defaults: unknown key 'stepz'; known: .*steps"),
    ({"training": {"experiments": {"vlminilm_full_vqa_1token": {}}}}, "vlminilm_full_vqa_1token: not in the grid"),
    ({"grid": {"include": ["effnet_zs_vqa_avg"]}}, "prefix 'vqa' does not go with a model of kind image"),
    ({"grid": {"include": ["gpt_zs_none_avg"]}}, "gpt_zs_none_avg: unknown model"),
    (
        {"grid": {"include": ["minilm_zs_none_sum-last-0"]}},
        "pooling 'sum-last-0' does not go with a model of kind text",
    ),
    ({"grid": {"include": ["minilm_zs_none_decoder"]}}, "pooling 'decoder': BERT has no decoder"),
    ({"grid": {"exclude": [{"model": "bm25", "prefix": "vqa"}]}}, "grid.exclude.0: takes nothing away"),
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
    ({"ablations": {"of": "minilm_zs_none_avg"}}, "does not see both image and text"),
    (
        {"datasets": {"sample": {"source": {"sample": {"split": {"train": 0.7}}}}}},
        "datasets.sample.source.sample.split: the shares add up to 1.1, not 1",
    ),
    ({"dataset": "simple"}, "dataset: 'simple' is not one of datasets with questions: sample"),
    ({"datasets": {"sample": {"knowledge_base": "x"}}}, "datasets.sample.knowledge_base: 'x' is no dataset with"),
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
    ({"datasets": {"x": {"source": ENTITIES | {"of": "y"}}}}, "datasets.x.source.of: 'y' is no dataset with questions"),
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
    ({"evaluation": {"metrics": ["recall@5"]}}, "evaluation.metrics.0: 'recall@5'"),
    ({"evaluation": {"columns": ["mrr@7"]}}, "evaluation.columns: mrr@7 not among evaluation.metrics"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_config_is_one_line_with_file_and_field(config, change, message):
    file = "models" if "models" in change else "config"
    with pytest.raises(InputError, match=rf"^config/{file}.yaml: .*{message}") as caught:
        validate(merge(config, change), FILES, SCHEMA)
    assert "\n" not in str(caught.value)


def test_the_file_that_holds_the_field_is_named(config, tmp_path):
    (tmp_path / "own.yaml").write_text("seedd: 1\ndataset: mine\n")
    files = [*FILES, tmp_path / "own.yaml"]
    with pytest.raises(InputError, match=r"own\.yaml: top level: unknown key 'seedd'"):
        validate(merge(config, {"seedd": 1, "dataset": "mine"}), files, SCHEMA)
    with pytest.raises(InputError, match=r"^config/config\.yaml: seed: 'x'"):
        validate(merge(config, {"seed": "x"}), files, SCHEMA)
    del (incomplete := merge(config, {}))["dataset"]
    with pytest.raises(InputError, match=r"^config/models\.yaml \+ config/config\.yaml: top level: missing 'dataset'"):
        validate(incomplete, FILES, SCHEMA)


def test_a_config_that_is_no_yaml_is_named(tmp_path):
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(InputError, match=r"a\.yaml: not valid YAML"):
        load_config([tmp_path / "a.yaml"])
    (tmp_path / "a.yaml").write_text("- a")
    with pytest.raises(InputError, match=r"a\.yaml: expected a mapping"):
        load_config([tmp_path / "a.yaml"])


def test_settings_come_from_defaults_then_method_then_experiment(config):
    experiment = Experiment.parse("vlminilm_full_none_avg")
    changed = merge(config, {"training": {"experiments": {experiment.name: {"steps": 3, "negatives": {"random": 1}}}}})
    resolved = settings(changed, experiment)["training"]
    assert resolved["steps"] == 3
    assert resolved["learning_rate"] == config["training"]["tuning"]["full"]["learning_rate"]
    assert resolved["negatives"] == {"random": 1}
    assert resolved["batch_size"] == config["training"]["defaults"]["batch_size"]


def test_one_experiments_parameter_leaves_the_others_settings_alone(config):
    changed = merge(config, {"training": {"experiments": {"vlminilm_full_none_avg": {"steps": 3}}}})
    differing = [e.name for e in grid(config) if settings(config, e) != settings(changed, e)]
    assert differing == ["vlminilm_full_none_avg"]


def test_zero_shot_does_not_depend_on_training(config):
    changed = merge(config, {"training": {"defaults": {"steps": 3}}})
    zero_shot = Experiment.parse("vlminilm_zs_none_avg")
    assert settings(changed, zero_shot) == settings(config, zero_shot)


def with_training(config, experiments):
    return merge(config, {"training": {"experiments": experiments}})


@pytest.mark.parametrize(
    ("experiments", "message"),
    [
        (
            {"vlminilm_lora_none_avg": {"negatives": {"model.minilm_full_none_avg": 1}}},
            "training: miner model.minilm_full_none_avg: the grid has no experiment minilm_full_none_avg",
        ),
        (
            {"vlminilm_lora_none_avg": {"negatives": {"image.minilm_zs_none_avg": 1}}},
            "training: miner image.minilm_zs_none_avg: minilm_zs_none_avg does not go by the image alone",
        ),
        (
            {"vlminilm_lora_none_avg": {"positives": "model.vlminilm_lora_none_avg"}},
            "training: vlminilm_lora_none_avg would be trained on what is mined from a run that waits for",
        ),
        (
            {
                "vlminilm_lora_none_avg": {"negatives": {"model.vlminilm_ia3_none_avg": 1}},
                "vlminilm_ia3_none_avg": {"negatives": {"model.vlminilm_full_none_avg": 1}},
                "vlminilm_full_none_avg": {"start": "vlminilm_lora_none_avg"},
            },
            "training: vlminilm_(full|ia3|lora)_none_avg would be trained on what is mined from a run that waits for",
        ),
        ({"vlminilm_lora_none_avg": {"negatives": {"model": 1}}}, "training.experiments.*: 'model'"),
    ],
)
def test_miners_read_runs_that_are_there_and_do_not_wait_for_them(config, experiments, message):
    with pytest.raises(InputError, match=message):
        validate(with_training(config, experiments), FILES, SCHEMA)


def test_a_training_may_mine_from_what_another_training_made(config):
    mined = {"negatives": {"model.vlminilm_full_none_avg": 1, "image.effnet_zs_none_concat": 2, "same-type": 1}}
    validate(with_training(config, {"vlminilm_lora_none_avg": mined | {"positives": "bm25"}}), FILES, SCHEMA)
    tasks = {"tasks": {"viquae": {"kind": "viquae"}}}
    assert miners(tasks | mined | {"positives": "bm25"}) == [*mined["negatives"], "bm25"]
    assert miners(tasks | {"negatives": {"bm25": 1}, "positives": "bm25"}) == ["bm25"]
    assert miners({}) == []


def with_variant(config, **variant):
    return merge(config, {"tuning": {"variants": {"frozen": {"method": "adapter", **variant}}}})


def test_a_variant_of_a_tuning_method_is_that_method_with_other_settings(config):
    changed = with_variant(config, visual=False)
    changed["grid"]["include"] = ["vlminilm_frozen_none_avg", "minilm_frozen_none_avg"]
    changed["training"]["tuning"] |= {"adapter": {"steps": 5, "batch_size": 4}, "frozen": {"steps": 6}}
    validate(changed, FILES, SCHEMA)
    resolved = settings(changed, Experiment.parse("vlminilm_frozen_none_avg"))
    assert resolved["tuning"] == {"method": "adapter", **changed["tuning"]["adapter"], "visual": False}
    assert (resolved["training"]["steps"], resolved["training"]["batch_size"]) == (6, 4)


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({"method": "x"}, "tuning.variants.frozen.method: 'x' is not one of"),
        ({"tokens": 3}, "tuning.variants.frozen: adapter has no tokens; it has reduction_factor"),
        ({"visual": 3}, "tuning.variants.frozen.visual: 3 is not like tuning.adapter.visual, True"),
    ],
)
def test_a_variant_that_cannot_be_is_refused(config, variant, message):
    with pytest.raises(InputError, match=message):
        validate(with_variant(config, **variant), FILES, SCHEMA)


def pretrained(config, tuning="adapter", **tasks):
    """The config with a pre-trained model, over another dataset too, in two rows of the grid."""
    every = {"triviaqa": {"kind": "triviaqa", "dataset": "trivia", "negatives": {"bm25": 1}}, **tasks}
    recipe = {"tuning": tuning, "steps": 7, "tasks": every}
    source = config["datasets"]["sample"]
    return merge(
        config,
        {
            "datasets": {"trivia": {**source, "lexical": {"b": 0.4, "k1": 0.9}}},
            "models": {"vlminilm-mt": {**config["models"]["vlminilm"], "pretraining": "multitask"}},
            "training": {"pretraining": {"multitask": recipe}},
            "grid": {"include": ["vlminilm-mt_adapter_vqa_avg"]},
        },
    )


def test_a_tuned_model_starts_from_its_pre_training_which_is_the_zero_shot_experiment(config):
    changed = pretrained(config, own={"kind": "viquae", "dataset": "sample"})
    validate(changed, FILES, SCHEMA)
    zero_shot, tuned = (Experiment.parse(f"vlminilm-mt_{tuning}_vqa_avg") for tuning in ("zs", "adapter"))
    assert zero_shot in trained(changed)
    assert zero_shot not in grid(changed)
    before, after = settings(changed, zero_shot), settings(changed, tuned)
    assert before["tuning"] == after["tuning"] == {"method": "adapter", **changed["tuning"]["adapter"]}
    assert before["model"] == after["model"] == changed["models"]["vlminilm"]
    assert before["training"]["steps"] == 7
    assert list(before["training"]["tasks"]) == ["triviaqa", "own"]
    assert "start" not in before["training"]
    assert after["training"]["start"] == zero_shot.name
    assert list(after["training"]["tasks"]) == ["viquae"]
    assert task_parts(before["training"], "trivia") == ["questions", "passages", "qrels", "negatives.bm25"]
    assert miners(before["training"]) == list(changed["training"]["defaults"]["negatives"]), "the evaluated one's own"
    assert read_weights(changed, tuned)["start"] == (f"results/sample/checkpoints/{zero_shot.name}",) * 2


@pytest.mark.parametrize(
    ("change", "tasks", "message"),
    [
        ({"training": {"pretraining": {"multitask": {"tuning": "lora"}}}}, {}, "pre-training lora adds parts"),
        ({"training": {"pretraining": {"multitask": {"tuning": "zs"}}}}, {}, "tuning 'zs' does not train a model"),
        (
            {"tuning": {"adapter": {"sharing": "multiple"}}},
            {},
            "training.start: vlminilm-mt_zs_vqa_avg has parts for its tasks alone, of which vlminilm-mt_adapter",
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
def test_a_pre_training_that_cannot_be_is_refused(config, change, tasks, message):
    with pytest.raises(InputError, match=message):
        validate(merge(pretrained(config, **tasks), change), FILES, SCHEMA)
