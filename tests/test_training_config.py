"""Contradictory training settings are rejected before anything runs."""

import pytest

from vlret.config import load_config, read
from vlret.experiment import Experiment, settings, tuning_and_run
from vlret.files import InputError

FILES = ["config/config.yaml"]
ADAPTER = Experiment.parse("vlminilm_adapter_none_avg")


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"patience": 2}, "training.patience: there is no validation; set validate_every"),
        (
            {"tasks": {"viquae": {"kind": "viquae", "weight": 2}}},
            "tasks.viquae.weight: round-robin takes tasks",
        ),
        ({"tasks": {"viquae": {"kind": "triviaqa"}}, "validate_every": 5}, "training.validate_every: no task of kind"),
        ({"tasks": {"other": {"kind": "vqa"}}}, "training.defaults.tasks.other.kind: 'vqa' is not one of"),
        ({"loss": {"name": "cosine", "learned": True}}, "training.defaults.loss: the cosine loss has no temperature"),
        ({"mixing": "random"}, "training.defaults.mixing: 'random' is not one of"),
        ({"validation_pool": 50}, "training.validation_pool: there is no validation; set validate_every"),
        ({"validation_pool": -1}, "training.defaults.validation_pool: -1 is less than the minimum"),
        ({"sampling": "questions"}, "training.defaults.sampling: 'questions' is not one of"),
        ({"save_minutes": 0.0}, "training.defaults.save_minutes: 0.0 is less than or equal to the minimum of 0"),
        ({"chunk": 0}, "training.defaults.chunk: 0 is less than the minimum"),
        ({"gpus": 0}, "training.defaults.gpus: 0 is less than the minimum"),
        (
            {"gpus": 3, "nodes": 2},
            "training.batch_size: 32 questions cannot be divided evenly among 6 processes, task viquae",
        ),
        ({"temperature": 1}, "training.defaults: unknown key 'temperature'"),
    ],
)
def test_a_wrong_training_is_a_one_line_error_with_file_and_field(training, message):
    with pytest.raises(InputError, match=rf"^--config: .*{message}") as caught:
        load_config(FILES, given={"training": {"defaults": training}})
    assert "\n" not in str(caught.value)


def test_a_text_model_cannot_match_images():
    own = {"minilm_full_none_avg": {"tasks": {"images": {"kind": "match_image"}}}}
    grid = read("config/config.yaml")["grid"] | {"include": ["minilm_full_none_avg"]}
    given = {"grid": grid, "training": {"experiments": own}}
    with pytest.raises(InputError, match=r"tasks.images: match_image needs .* \(of minilm_full_none_avg\)"):
        load_config(FILES, given=given)


def test_several_tasks_are_a_valid_training():
    several = load_config(["tests/cut-down.yaml"])
    own = settings(several, Experiment.parse("vlminilm_prompt_vqa_1token")).training
    assert [task.kind for task in own.tasks.values()] == ["viquae", "triviaqa", "match_image", "match_article"]
    assert own.steps == several.training.defaults.steps


def test_settings_exclude_where_a_training_runs_and_saves():
    config = load_config(FILES)
    changed = load_config(FILES, given={"training": {"tuning": {"adapter": {"gpus": 2, "nodes": 4, "save_steps": 3}}}})
    before, after = (tuning_and_run(each, ADAPTER)[1] for each in (config, changed))
    assert (before.gpus, before.nodes) == (1, 1)
    assert (after.gpus, after.nodes, after.save_steps) == (2, 4, 3)
    assert tuning_and_run(changed, Experiment.parse("vlminilm_zs_none_avg"))[1] is None
    assert settings(changed, ADAPTER) == settings(config, ADAPTER)
