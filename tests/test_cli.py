import argparse
import importlib
import inspect
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path, PosixPath  # noqa: F401 (for `eval`)

import pytest
from pydantic import TypeAdapter

from vlret import cli, made, signatures
from vlret.arguments import options_of
from vlret.cli import main
from vlret.files import InputError
from vlret.settings import IA3, LoRA, Passages  # noqa: F401
from vlret.signatures import REQUIRED, signature_of
from vlret.typed import typed
from vlret.verbs import VERBS, Verb

VLRET = [sys.executable, "-m", "vlret"]

# A verb with an option of every type; it writes down what it was called with.
EVERY = '''
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from vlret.settings import AnyTuning


def make(
    tuning: AnyTuning,
    runs: list[Path],
    weights: Mapping[str, Path],
    index: Path | None,
    limits: dict,
    out: Path,
    side: Literal["text", "image"] = "text",
    k: int = 5,
    step: float | None = None,
    names: Sequence[str] = (),
    negatives: Mapping[str, Path] | None = None,
    shares: Mapping[str, float] | None = None,
    exact: bool = False,
    workers: int = 1,
) -> None:
    """Make something.

    It is 100 % made.

    Parameters
    ----------
    runs, weights
        What is made from, in
        two lines: 50 %.
    k : int
        How many.

    Raises
    ------
    InputError
        Never.
    """
    given = locals()
    out.write_text(repr(given))
'''
FEW = 'every make --runs a b --limits {} --tuning {"method":"ia3"}'


@pytest.fixture
def every(tmp_path, monkeypatch):
    """The command with that verb, in an empty folder; called with options, it gives what the function got."""
    (tmp_path / "every_option.py").write_text(EVERY)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(signatures, "ROOT", tmp_path)
    monkeypatch.setattr(cli, "VERBS", [Verb("every", "make", "every_option:make")])
    monkeypatch.setitem(made.VERSIONS, "every make", 3)
    signature_of.cache_clear()

    def called(*options):
        assert main([*options, "--out", "out"]) == 0
        return eval(Path("out").read_text())

    yield called
    signature_of.cache_clear()
    sys.modules.pop("every_option", None)


def few(*options):
    return [*FEW.split(), *options]


def refused(capsys, *options):
    """The one line that a wrong command line is answered with."""
    with pytest.raises(SystemExit) as caught:
        main([*options, "--out", "out"])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error.removeprefix("vlret: error: ").strip()


# ---- The table of verbs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS, ids=str)
def test_the_source_of_a_verbs_function_says_what_the_function_does(verb):
    module, name = verb.function.split(":")
    function = getattr(importlib.import_module(module), name)
    signature = signature_of(verb.function)
    assert signature.summary == inspect.getdoc(function).splitlines()[0]
    defaults = {
        parameter.name: REQUIRED if parameter.default is parameter.empty else parameter.default
        for parameter in inspect.signature(function).parameters.values()
    }
    assert {name: parameter.default for name, parameter in signature.parameters.items()} == defaults
    parser = argparse.ArgumentParser()
    for option in options_of(function, signature):
        option.add_to(parser, required=False)
        assert TypeAdapter(option.annotation)
        assert option.parameter.is_path == ("Path" in str(option.annotation)), option.name


def test_verbs_have_names_of_their_own():
    assert len({str(verb) for verb in VERBS}) == len(VERBS)


def test_every_option_has_its_help():
    without = [
        f"{verb.function} {name}"
        for verb in VERBS
        for name, parameter in signature_of(verb.function).parameters.items()
        if not parameter.help
    ]
    assert without == []


# ---- Help -----------------------------------------------------------------------------------------------------------


def loaded(code):
    """Which of the heavy packages a piece of code loads."""
    heavy = "{'torch', 'transformers', 'faiss', 'datasets', 'ranx', 'timm', 'pandas', 'numpy', 'pydantic'}"
    script = f"{code}\nimport sys; print(*sorted({heavy} & set(sys.modules)), file=sys.stderr)"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stderr.split()


@pytest.mark.parametrize(
    "arguments", [["--help"], *([stage, "--help"] for stage in dict.fromkeys(v[0] for v in VERBS))]
)
def test_the_package_and_its_help_load_nothing_heavy(arguments):
    assert loaded(f"import vlret.cli\ntry: vlret.cli.main({arguments})\nexcept SystemExit: pass") == []


def test_help_takes_under_a_second_of_the_processor():
    def seconds(*stage):
        before = os.times()
        subprocess.run([*VLRET, *stage, "--help"], capture_output=True, check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(seconds() for _ in range(3)) < 1
    assert min(seconds("data") for _ in range(3)) < 1


def test_a_stage_lists_its_verbs_with_the_first_lines_of_their_docstrings(capsys):
    with pytest.raises(SystemExit):
        main(["lexical", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for verb in VERBS:
        assert (f"{verb.name} {signature_of(verb.function).summary}" in shown) == (verb.stage == "lexical")


def test_a_verbs_help_is_its_docstring(every, capsys):
    with pytest.raises(SystemExit):
        main(["every", "make", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "Make something. It is 100 % made. options:" in shown
    assert "--runs PATH [PATH ...] What is made from, in two lines: 50 %. (required)" in shown
    assert "--weights [NAME=PATH ...] What is made from, in two lines: 50 %. --" in shown
    assert "--k INT How many. (default: 5)" in shown
    assert "--side {text,image} (default: text)" in shown
    assert "--tuning JSON (required)" in shown
    assert "--exact, --no-exact (default: False)" in shown
    assert "--index PATH --" in shown


# ---- Options --------------------------------------------------------------------------------------------------------


def test_each_option_is_of_its_parameters_type(every):
    got = every(
        *few(
            "--weights", "text=t5", "joint=w/V=1.pth", "--index", "i", "--side", "image", "--k", "7", "--step", "1e-3"
        ),
        *("--names", "x", "y", "--shares", '{"a": 1}', "--exact"),
    )
    assert got == {
        "tuning": IA3(method="ia3"),
        "runs": [Path("a"), Path("b")],
        "weights": {"text": Path("t5"), "joint": Path("w/V=1.pth")},
        "index": Path("i"),
        "limits": {},
        "out": Path("out"),
        "side": "image",
        "k": 7,
        "step": 0.001,
        "names": ["x", "y"],
        "negatives": None,
        "shares": {"a": 1.0},
        "exact": True,
        "workers": 1,
    }


def test_what_is_not_given_is_the_default_or_nothing(every):
    got = every(*few())
    assert {name: got[name] for name in ("weights", "negatives", "index", "side", "names", "exact")} == {
        "weights": {},
        "negatives": None,
        "index": None,
        "side": "text",
        "names": (),
        "exact": False,
    }


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--tuning", "{x"], "--tuning: not valid JSON"),
        (["--tuning", '{"method": "lora", "rank": 0}'], "--tuning: rank: 0 is less than the minimum of 1"),
        (["--tuning", '{"method": "ia3", "rank": 0}'], "--tuning: unknown key 'rank'; known: method, sharing, visual"),
        (["--tuning", "3"], "--tuning: 3 is not of type 'object'"),
        (["--weights", "x"], "--weights: 'x': expected NAME=PATH"),
        (["--weights", "x=a", "--weights", "x=b"], "--weights: 'x' is given twice"),
        (["--shares", '{"a": "b"}'], "--shares: a: 'b' is not of type 'number'"),
        (["--k", "x"], "--k: invalid int value: 'x'"),
        (["--side", "x"], "--side: invalid choice: 'x' (choose from 'text', 'image')"),
        (["--kk", "3"], "unrecognized arguments: --kk 3"),
        (["--ind", "i"], "unrecognized arguments: --ind i"),
    ],
)
def test_a_wrong_value_is_one_line(every, capsys, options, line):
    assert refused(capsys, *few(*options)).startswith(line)


def test_what_is_missing_is_named(every, capsys):
    assert refused(capsys, "every", "make", "--runs", "a") == "the following arguments are required: --tuning, --limits"


# ---- Options from files ---------------------------------------------------------------------------------------------


def written(**values):
    Path("given.json").write_text(json.dumps(values))
    return "@given.json"


def test_a_file_gives_options_as_plain_json_and_those_beside_it_count_for_more(every):
    given = {"tuning": {"method": "lora", "rank": 2}, "runs": ["c", "d"], "limits": {"x": 1}, "exact": True, "k": 9}
    file = written(**given, names=["x"], shares={"a": 0.5}, weights={"text": "t5"}, index=None, side="image", step=1)
    got = every("every", "make", file)
    assert (got["tuning"].rank, [str(path) for path in got["runs"]], got["limits"]) == (2, ["c", "d"], {"x": 1})
    assert (got["exact"], got["k"], got["names"], got["shares"]) == (True, 9, ["x"], {"a": 0.5})
    assert ({name: str(path) for name, path in got["weights"].items()}, got["index"]) == ({"text": "t5"}, None)
    for order in ([file, "--k", "3"], ["--k", "3", file]):
        got = every("every", "make", *order, "--no-exact", "--weights", "joint=j", "--runs", "e")
        assert (got["k"], got["exact"], list(got["weights"]), len(got["runs"])) == (3, False, ["joint"], 1)
        assert (got["tuning"].rank, got["side"]) == (2, "image")


def test_of_two_files_the_later_counts_for_more(every):
    Path(written(k=3, workers=7)[1:]).rename("first.json")
    got = every(*few("@first.json", written(k=4)))
    assert (got["k"], got["workers"]) == (4, 7)


def test_names_in_files_may_have_dashes(every, monkeypatch):
    monkeypatch.setattr(cli, "VERBS", [Verb("a", "b", "dashed:make")])
    function = "from pathlib import Path\ndef make(of_two: int, out: Path):\n out.write_text(repr(locals()))\n"
    Path("../dashed.py").write_text(function)
    for name in ("of-two", "of_two"):
        assert every("a", "b", written(**{name: 3}))["of_two"] == 3


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"kk": 3}, "given.json: unknown option 'kk'; known: exact, index, k, limits"),
        ({"k": "x"}, "given.json: --k: 'x' is not of type 'integer'"),
        ({"side": "x"}, "given.json: --side: 'x' is not one of ['text', 'image']"),
        ({"runs": "a"}, "given.json: --runs: 'a' is not of type 'array'"),
        ({"weights": {"text": 3}}, "given.json: --weights: text: 3 is not of type 'string'"),
        ({"tuning": {"method": "lora", "rank": "x"}}, "given.json: --tuning: rank: 'x' is not of type 'integer'"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line_that_names_it(every, capsys, values, line):
    command = few(written(**values))
    for name in values:
        if f"--{name}" in command:
            place = command.index(f"--{name}")
            del command[place : place + (3 if name == "runs" else 2)]
    assert refused(capsys, *command).startswith(line)


def test_a_file_that_cannot_be_read_is_one_line(every, capsys):
    assert refused(capsys, *few("@nothing.json")) == "nothing.json: no such file"
    Path("list.json").write_text("[1]")
    assert refused(capsys, *few("@list.json")) == "list.json: expected an object, found list"


# ---- The note of what was made --------------------------------------------------------------------------------------


def note(path="out"):
    return json.loads(made.note_of(path).read_text())


def test_a_verb_notes_what_made_its_output(every, tmp_path):
    for name, digest in (("a", "0" * 16), ("t5", "1" * 16)):
        (tmp_path / "here" / name).write_text("")
        made.write_note(tmp_path / "here" / name, {"digest": digest})
    every(*few("--weights", "text=t5", "joint=none", "--k", "5", "--step", "0.5", "--workers", "3", "--index", "none"))
    told = note()
    settings = {"tuning": {"method": "ia3"}, "step": 0.5}
    inputs = {"runs": ["0" * 16], "weights.text": ["1" * 16]}
    assert told["settings"] == settings
    assert told["inputs"] == inputs
    assert (told["verb"], told["version"], told["vlret"]) == ("every make", 3, cli.__version__)
    assert told["digest"] == made.digest("every make", 3, settings, inputs)


def test_a_digest_changes_with_settings_and_inputs_and_not_with_resources_and_defaults(every, tmp_path):
    def digest(*options):
        every(*few(*options))
        return note()["digest"]

    first = digest()
    assert digest("--workers", "4", "--limits", '{"x": 2}') == first
    assert digest("--k", "5", "--side", "text", "--names", "--tuning", '{"method": "ia3", "visual": true}') == first
    others = [digest("--k", "6"), digest("--tuning", '{"method": "ia3", "visual": false}'), digest("--names", "x")]
    made.write_note(tmp_path / "here" / "a", {"digest": "0" * 16})
    others.append(digest())
    assert len({first, *others}) == 5
    assert made.digest("every make", 3, {}, {}) != made.digest("every make", 4, {}, {})
    assert made.digest("every make", 3, {}, {}) != made.digest("every take", 3, {}, {})


def test_an_earlier_output_is_no_input(every):
    every(*few())
    before = note()
    every(*few())
    assert note() == before


def test_no_note_is_written_of_what_was_not_made(every, tmp_path, capsys):
    source = (tmp_path / "every_option.py").read_text()
    (tmp_path / "every_option.py").write_text(source.replace("out.write_text(repr(given))", "pass"))
    assert main([*few(), "--out", "out"]) == 0
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("name", ["RANK", "SLURM_NODEID"])
def test_of_several_processes_the_first_writes_the_note(every, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    every(*few())
    assert list(Path().iterdir()) == [Path("out")]
    monkeypatch.setenv(name, "0")
    every(*few())
    assert note()["verb"] == "every make"


# ---- The command as a whole -----------------------------------------------------------------------------------------


def command(line, folder):
    return subprocess.run([*VLRET, *shlex.split(line)], cwd=folder, capture_output=True, text=True, check=False)


def test_an_input_error_is_one_line_and_exit_code_1(tmp_path):
    done = command("lexical join --runs nothing.trec --k 5 --tag x --out out.trec", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "vlret: error: nothing.trec: no such file\n"
    assert list(tmp_path.iterdir()) == []


def test_a_run_by_hand_is_known_by_what_it_was_joined_from(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.trec").write_text(f"{name} Q0 00000003 1 0.5 x\n")
    made.write_note(tmp_path / "a.trec", {"digest": "a" * 16})
    done = command("lexical join --runs a.trec b.trec --k 5 --tag x --out out.trec", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    told = note(tmp_path / "out.trec")
    assert (told["settings"], told["inputs"]) == ({"k": 5, "tag": "x"}, {"runs": ["a" * 16]})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nothing", "invalid choice: 'nothing'"),
        ("data nothing", "invalid choice: 'nothing'"),
        ("data", "the following arguments are required: VERB"),
        ("", "the following arguments are required: STAGE"),
    ],
)
def test_an_unknown_verb_is_a_mistake_of_usage(capsys, line, message):
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_the_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"vlret {cli.__version__}\n"


def test_settings_may_be_plain_mappings_in_python(tmp_path):
    calls = []

    @typed
    def make(settings: Passages, limits: Mapping[str, int], out: Path = tmp_path) -> None:
        calls.append((settings, limits))

    make({"unit": "tokens", "tokens": 7}, limits={"malformed": 1})
    make(Passages(unit="sentence"), {})
    assert calls == [(Passages(unit="tokens", tokens=7), {"malformed": 1}), (Passages(unit="sentence"), {})]
    with pytest.raises(InputError, match="settings: unknown key 'token'; did you mean 'tokens'"):
        make({"token": 7}, {})
