from typing import Annotated

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from vlret.explained import explain
from vlret.settings import AnyTuning, Config, Fusion, Settings


def told(annotation, data):
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(annotation).validate_python(data)
    return explain(caught.value, data, annotation)


class Part(Settings):
    size: Annotated[int, Field(ge=4)] = 4
    names: tuple[str, ...] = ()


class Whole(Settings):
    one: Part = Part()
    other: Part
    more: dict[str, Part] | None = None


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"other": {"size": "x"}}, "other.size: 'x' is not of type 'integer'"),
        ({"other": {"size": 3}}, "other.size: 3 is less than the minimum of 4"),
        ({"other": {}, "more": {"a": {"names": ["b", 3]}}}, "more.a.names.1: 3 is not of type 'string'"),
        ({"other": {"sise": 4}}, "other: unknown key 'sise'; did you mean 'size'? known: names, size"),
        ({"other": {"width": 4}}, "other: unknown key 'width'; known: names, size"),
        ({"one": {}}, "missing 'other'"),
        ({"other": 3}, "other: 3 is not of type 'object'"),
        (3, "3 is not of type 'object'"),
        ({"x": 3, "other": {}}, "unknown key 'x'; known: more, one, other"),
        ({"other": {"size": "x" * 999}}, f"other.size: '{'x' * 96}... is not of type 'integer'"),
    ],
)
def test_the_field_and_what_is_wrong_there(data, line):
    assert told(Whole, data) == line


def test_of_several_errors_the_first_of_the_data_is_told():
    wrong = {"size": 3}
    assert told(Whole, {"other": wrong, "one": wrong}).startswith("other.size")
    assert told(Whole, {"one": wrong, "other": wrong}).startswith("one.size")
    assert told(Whole, {"one": wrong}).startswith("one.size"), "before what is missing"


@pytest.mark.parametrize(
    ("annotation", "data", "line"),
    [
        (AnyTuning, {"method": "lora", "rank": 0}, "rank: 0 is less than the minimum of 1"),
        (AnyTuning, {"method": "ia3", "rank": 0}, "unknown key 'rank'; known: method, sharing, visual"),
        (Fusion, {"method": "mean"}, "method: 'mean' is not one of ['interpolation', 'rrf']"),
        (Fusion, {"runs": ["a", "b"]}, "missing 'method'"),
        (list[Fusion], [{"method": "rrf", "runs": ["a"], "constant": 1}], "0.runs: ['a'] is too short"),
    ],
)
def test_alternatives_are_not_told_as_places(annotation, data, line):
    assert told(annotation, data) == line


# Tags that are also keys of the data, and classes found by walking the config.
@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"sample": {"split": {"train": 0.5}}}, ".sample.split: missing 'validation', 'test'"),
        ({"sample": {"split": {"train": 2}}}, ".sample.split.train: 2 is greater than or equal to the maximum of 1"),
        ({"sample": {"size": 3}}, ".sample: unknown key 'size'; known: articles, image_size, images_per_entity, split"),
        ({"entities": "e", "images": "i", "of": "x", "without": []}, ": missing 'split'"),
        ({"questions": 3}, ".questions: 3 is not of type 'string', 'object'"),
    ],
)
def test_a_tag_that_is_a_key_too(data, line):
    config = {"dataset": "x", "datasets": {"x": {"source": data}}}
    assert told(Config, config) == f"datasets.x.source{line}"


def test_what_a_key_and_a_check_of_ones_own_say():
    wrong = {"dataset": "x", "training": {"defaults": {"negatives": {"model": 1}}}}
    assert told(Config, wrong).startswith("training.defaults.negatives: 'model' does not match '^(bm25|")
    wrong["training"] = {"defaults": {"learning_rate": "5e-4"}}
    assert told(Config, wrong) == "training.defaults.learning_rate: '5e-4' is text in YAML: write 5.0e-04"


@pytest.mark.parametrize(("words", "line"), [("x", "'x' is not one of ['none', 'english']"), ([""], "")])
def test_of_alternatives_the_one_that_got_deepest_is_told(words, line):
    place = "lexical.analysis.stop_words"
    expected = f"{place}: {line}" if line else f"{place}.0: '' should be non-empty"
    assert told(Config, {"lexical": {"analysis": {"stop_words": words}}}) == expected
