"""The JSON schema for editors matches the settings classes."""

import jsonschema
import yaml

from vlret.schema import PATH, schema


def test_the_schema_matches_the_classes():
    assert PATH.read_text(encoding="utf-8") == schema(), "regenerate it: python -m vlret.schema"


def test_the_configs_fit_it_and_a_mistake_does_not():
    validator = jsonschema.Draft202012Validator(yaml.safe_load(PATH.read_text()))
    for name in ("config/config.yaml", "config/viquae.yaml", "config/models.yaml", "tests/cut-down.yaml"):
        with open(name) as stream:
            assert not list(validator.iter_errors(yaml.safe_load(stream))), name
    assert list(validator.iter_errors({"training": {"defaults": {"stepz": 1}}}))
