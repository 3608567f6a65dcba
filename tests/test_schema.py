"""The JSON schema that editors read says what the classes say."""

import jsonschema
import yaml

from vlret.schema import PATH, schema


def test_the_schema_is_that_of_the_classes():
    assert PATH.read_text(encoding="utf-8") == schema(), "write it anew: python -m vlret.schema"


def test_the_configs_fit_it_and_a_mistake_does_not():
    validator = jsonschema.Draft202012Validator(yaml.safe_load(PATH.read_text()))
    for name in ("config/config.yaml", "config/viquae.yaml", "config/models.yaml", "tests/cut-down.yaml"):
        with open(name) as stream:
            assert not list(validator.iter_errors(yaml.safe_load(stream))), name
    assert list(validator.iter_errors({"training": {"defaults": {"stepz": 1}}}))
