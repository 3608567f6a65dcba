"""YAML files: mappings with unique text keys, of bounded size, and valid as UTF-8."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from vlret.files import InputError, error_summary

MOST_VALUES = 100_000  # with aliases expanded: ten lines of nested aliases can expand to billions

MERGED = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """YAML loader whose errors name their line."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _count(node, {}, set())
        return node

    def construct_scalar(self, node: yaml.Node) -> object:
        value = super().construct_scalar(node)
        try:
            value.encode()
        except UnicodeEncodeError as error:
            surrogate = value[error.start]
            raise _mistake(f"a lone surrogate, {surrogate!a}, which UTF-8 cannot encode", node) from error
        return value


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict:
    seen = set()
    for key, _ in node.value:
        if key.tag != MERGED:
            value = _text_key(loader, key)
            if value in seen:
                raise _mistake(f"duplicate key {value!r}", key)
            seen.add(value)
    loader.flatten_mapping(node)
    for key, _ in node.value:  # those of merged mappings too
        _text_key(loader, key)
    return loader.construct_mapping(node, deep=True)


def _text_key(loader: _Loader, key: yaml.Node) -> str:
    value = loader.construct_object(key, deep=True)
    if not isinstance(value, str):
        raise _mistake(f"a key is {type(value).__name__}, expected text; quote it", key)
    return value


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _count(node: yaml.Node, counts: dict[yaml.Node, int], above: set[yaml.Node]) -> int:
    """Count the values of a node with aliases expanded; raises if it contains itself."""
    if node in above:
        raise _mistake("an alias refers to a node that contains it", node)
    if node not in counts:
        inside = [] if isinstance(node, yaml.ScalarNode) else node.value
        if isinstance(node, yaml.MappingNode):
            inside = [part for pair in inside for part in pair]
        above.add(node)
        counts[node] = 1 + sum(_count(part, counts, above) for part in inside)
        above.remove(node)
    if counts[node] > MOST_VALUES:
        raise _mistake(f"more than {MOST_VALUES} values with aliases expanded", node)
    return counts[node]


def _mistake(what: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, what, node.start_mark)


def read(path: Path) -> dict:
    """Read a YAML file; raises `InputError` with file and line if it is invalid or not a mapping of text keys."""
    try:
        values = _Loader(Path(path).read_text(encoding="utf-8")).get_single_data()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except Exception as error:  # besides syntax: nesting too deep, numbers too long, invalid dates
        raise InputError(f"{path}{_place(error)}: not valid YAML: {_problem(error)}") from error
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise InputError(f"{path}: expected a mapping of keys, found {type(values).__name__}")
    return values


def _place(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f", line {mark.line + 1}" if mark else ""


def _problem(error: Exception) -> str:
    return " ".join((getattr(error, "problem", None) or error_summary(error)).split())
