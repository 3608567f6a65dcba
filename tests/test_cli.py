import importlib
import inspect
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from vlret.cli import VERBS, main, parser

VLRET = [sys.executable, "-m", "vlret"]


@pytest.mark.parametrize("verb", VERBS, ids=[f"{verb.stage} {verb.name}" for verb in VERBS])
def test_a_verbs_options_are_its_functions_arguments(verb):
    module, function = verb.function.split(":")
    arguments = inspect.signature(getattr(importlib.import_module(module), function)).parameters
    assert {option.name for option in verb.options} == set(arguments)


def loaded(code):
    """Which of the heavy packages a piece of code loads."""
    heavy = "{'torch', 'transformers', 'faiss', 'datasets', 'ranx', 'timm', 'pandas'}"
    script = f"{code}\nimport sys; print(*sorted({heavy} & set(sys.modules)), file=sys.stderr)"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stderr.split()


def test_the_package_and_its_help_load_nothing_heavy():
    assert loaded("import vlret") == []
    assert loaded("import vlret.cli\ntry: vlret.cli.main(['--help'])\nexcept SystemExit: pass") == []


def test_help_takes_under_a_second_of_the_processor():
    def seconds():
        before = os.times()
        subprocess.run([*VLRET, "--help"], capture_output=True, check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(seconds() for _ in range(3)) < 1


def test_an_input_error_is_one_line_and_exit_code_1(tmp_path):
    command = [*VLRET, *shlex.split("lexical join --runs nothing.trec --k 5 --tag x --out out.trec")]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "vlret: error: nothing.trec: no such file\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("lexical index --passages p --settings {x --out o", "argument --settings: not valid JSON"),
        ("training train --negatives x", "argument --negatives: 'x': expected NAME=PATH"),
        ("data articles", "the following arguments are required"),
    ],
)
def test_a_bad_option_is_named(capsys, command, message):
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(command))
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_named_paths_are_one_mapping_and_an_empty_one_where_none_are_given():
    command = "retrieval embed --checkpoint c --questions q --passages p --articles a --batch-size 2 --out o"
    assert parser().parse_args(shlex.split(command)).weights == {}
    given = parser().parse_args(shlex.split(f"{command} --weights text=t5 joint=weights/VLT5Epoch30.pth")).weights
    assert given == {"text": Path("t5"), "joint": Path("weights/VLT5Epoch30.pth")}
