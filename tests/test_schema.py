"""The JSON schema for editors and config/README.md match the settings classes."""

import re

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from vlret import reference, settings
from vlret.schema import PATH, schema


def test_the_schema_matches_the_classes():
    assert PATH.read_text(encoding="utf-8") == schema(), "regenerate it: python -m vlret.schema"


def test_the_configs_fit_it_and_a_mistake_does_not():
    validator = jsonschema.Draft202012Validator(yaml.safe_load(PATH.read_text()))
    for name in ("config/config.yaml", "config/viquae.yaml", "config/models.yaml", "tests/cut-down.yaml"):
        with open(name) as stream:
            assert not list(validator.iter_errors(yaml.safe_load(stream))), name
    assert list(validator.iter_errors({"training": {"defaults": {"stepz": 1}}}))


def test_the_reference_is_that_of_the_classes():
    assert reference.PATH.read_text(encoding="utf-8") == reference.reference(), (
        "write it anew: python -m vlret.reference"
    )


@pytest.mark.parametrize("name", re.findall("^## (.*)$", reference.reference(), re.MULTILINE))
def test_the_reference_has_every_key_of_a_class_with_its_documentation(name: str):
    model: type[BaseModel] = getattr(settings, name)
    section = reference.reference().split(f"## {name}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(model.model_fields)
    for row, (key, field) in zip(rows, model.model_fields.items(), strict=True):
        documented = " ".join((field.description or "").replace("<", "&lt;").replace("|", "\\|").split())
        assert not documented or row.endswith(f" {documented} |")
        by_its_key = key == "method" and model in settings.METHODS
        assert ("**required**" in row) == (field.is_required() and not by_its_key), row


def test_every_class_that_the_reference_links_to_is_in_it():
    text = reference.reference()
    anchors = {name.lower() for name in re.findall("^## (.*)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#(\w+)\)", text)) <= anchors
