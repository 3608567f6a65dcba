"""Settings of trainings that contradict each other are refused before anything runs."""

import pytest

from vlret.experiment import Experiment, load_config, merge, processes, settings
from vlret.files import InputError
from vlret.validation import validate

SCHEMA = "config/schemas/config.schema.yaml"
FILES = ["config/models.yaml", "config/config.yaml"]
ADAPTER = "vlminilm_adapter_none_avg"


@pytest.fixture(scope="module")
def config():
    return load_config(FILES)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"patience": 2}, "training.patience: nothing is validated .*; set validate_every"),
        ({"tasks": {"viquae": {"weight": 2}}}, r"training.tasks.viquae.weight: round-robin takes tasks in turn"),
        ({"tasks": {"viquae": {"kind": "triviaqa"}}, "validate_every": 5}, "training.validate_every: no task of kind"),
        ({"tasks": {"other": {"kind": "vqa"}}}, "training.defaults.tasks.other.kind: 'vqa' is not one of"),
        ({"loss": {"name": "cosine", "learned": True}}, "training.defaults.loss.learned: False was expected"),
        ({"mixing": "random"}, "training.defaults.mixing: 'random' is not one of"),
        ({"chunk": 0}, "training.defaults.chunk: 0 is less than the minimum"),
        ({"gpus": 0}, "training.defaults.gpus: 0 is less than the minimum"),
        ({"gpus": 3, "nodes": 2}, "training.batch_size: 32 questions do not go evenly into 6 processes, task viquae"),
        ({"temperature": 1}, "training.defaults: unknown key 'temperature'"),
    ],
)
def test_a_wrong_training_is_one_line_with_file_and_field(config, training, message):
    with pytest.raises(InputError, match=rf"^config/config.yaml: {message}"):
        validate(merge(config, {"training": {"defaults": training}}), FILES, SCHEMA)


def test_images_are_not_matched_by_a_model_of_text(config):
    changed = merge(config, {"grid": {"include": ["minilm_full_none_avg"]}})
    own = {"minilm_full_none_avg": {"tasks": {"images": {"kind": "match_image"}}}}
    with pytest.raises(InputError, match=r"tasks.images: match_image needs .* \(of minilm_full_none_avg\)"):
        validate(merge(changed, {"training": {"experiments": own}}), FILES, SCHEMA)


def test_several_tasks_are_a_valid_training(config):
    several = load_config(["config/models.yaml", "tests/cut-down.yaml"])
    validate(several, ["config/models.yaml", "tests/cut-down.yaml"], SCHEMA)
    own = settings(several, Experiment.parse("vlminilm_prompt_vqa_1token"))["training"]
    assert [entry["kind"] for entry in own["tasks"].values()] == ["viquae", "triviaqa", "match_image", "match_article"]
    assert own["steps"] == several["training"]["defaults"]["steps"]


def test_where_a_training_runs_is_none_of_its_settings(config):
    experiment = Experiment.parse(ADAPTER)
    changed = merge(config, {"training": {"tuning": {"adapter": {"gpus": 2, "nodes": 4}}}})
    validate(changed, FILES, SCHEMA)
    assert processes(config, experiment) == {"gpus": 1, "nodes": 1}
    assert processes(changed, experiment) == {"gpus": 2, "nodes": 4}
    assert processes(changed, Experiment.parse("vlminilm_zs_none_avg")) == {"gpus": 1, "nodes": 1}
    assert settings(changed, experiment) == settings(config, experiment)
