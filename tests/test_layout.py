"""The layout of results beside the rules of the Snakefile, and what it knows of a job."""

import inspect
import json
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import pytest

from vlret.arguments import Parser, options_of
from vlret.config import check, load_config, read
from vlret.experiment import rows
from vlret.files import InputError, write_json
from vlret.layout import OUTPUTS, File, Job, Layout
from vlret.layout.paths import EVALUATED, wildcards_of
from vlret.made import RESOURCES
from vlret.settings import Config
from vlret.signatures import signature_of
from vlret.status import expected
from vlret.verbs import VERBS

ROOT = Path(__file__).parents[1]
ADAPTER = "vlminilm_adapter_none_avg"
FUNCTIONS = {str(verb): verb.function for verb in VERBS}


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(["tests/cut-down.yaml"])


@pytest.fixture(scope="module")
def layout(config) -> Layout:
    return Layout(config, Path())


def every_job(layout: Layout) -> dict[File, Job]:
    """The jobs that the table is made by, by what they make."""
    waiting, found = [layout.made("table")], {}
    while waiting:
        file = waiting.pop()
        if file.rule and file not in found:
            found[file] = layout.job(file.rule, file.wildcards)
            waiting += [each for files in found[file].files().values() for each in files]
    return found


def test_every_rule_has_a_method_that_takes_its_wildcards_and_every_method_a_rule():
    text = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    rules = {
        *re.findall(r"^rule (\w+):", text, re.MULTILINE),
        *re.findall(r"^use rule \w+ as (\w+)", text, re.MULTILINE),
    }
    assert rules == OUTPUTS.keys()
    for rule in rules:
        wildcards = {name for path in OUTPUTS[rule].values() for name in wildcards_of(path)} - {"table"}
        wildcards -= {"dataset"} if rule in EVALUATED else set()
        parameters = [*inspect.signature(getattr(Layout, f"_{rule}")).parameters.values()][1:]
        needed = {each.name for each in parameters if each.default is each.empty}
        assert needed <= wildcards <= {each.name for each in parameters}, rule
    private = {name: value for name, value in vars(Layout).items() if name[0] == "_" and inspect.isfunction(value)}
    hints = {name: get_type_hints(value) for name, value in private.items()}
    jobs = {
        name
        for name, types in hints.items()
        if types.pop("return", None) is Job and {*types.values()} <= {str, int | None}
    }
    assert jobs == {f"_{rule}" for rule in rules}


@pytest.mark.parametrize("file", ["tests/cut-down.yaml", "config/viquae.yaml"])
def test_every_option_of_a_job_is_one_of_its_verbs(file):
    jobs = every_job(Layout(load_config([file]), Path()))
    assert len(jobs) > 40
    for path, job in jobs.items():
        parameters = signature_of(FUNCTIONS[job.verb]).parameters
        assert {*job.inputs, *job.settings, *job.named, *job.resources} <= parameters.keys(), path
        assert job.resources.keys() <= RESOURCES, path
        assert not {*job.inputs, *job.settings, *job.named} & RESOURCES, path
        assert all(parameters[name].is_path for name in job.inputs), path
        json.dumps(job.settings)


@pytest.mark.parametrize("file", ["tests/cut-down.yaml", "config/viquae.yaml"])
def test_the_command_line_of_a_job_is_read_as_it_is_meant(file):
    verbs = {}
    for job in every_job(Layout(load_config([file]), Path())).values():
        verbs.setdefault((job.verb, *sorted((*job.inputs, *job.named, *job.resources))), job)
    for (verb, *_), job in verbs.items():
        module, _, function = FUNCTIONS[verb].partition(":")
        options = options_of(getattr(import_module(module), function), signature_of(FUNCTIONS[verb]))
        parser = Parser()
        for option in options:
            option.add_to(parser, required=False)
        read = vars(parser.parse_args(shlex.split(job.options())))
        for name, value in {**job.named, **job.resources}.items():
            expected = str(value) if isinstance(read[name], str) else json.loads(json.dumps(value))
            assert read[name] == expected, (verb, name)


def test_the_options_of_a_rules_shell_line_are_those_of_its_verb():
    text = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    lines = re.findall(r"""["']vlret (\S+ \S+) (.*)2>&1""", text)
    assert len(lines) > 20
    for verb, words in lines:
        options = {option.replace("-", "_") for option in re.findall(r"--(\S+)", words)}
        assert options <= signature_of(FUNCTIONS[verb]).parameters.keys(), verb


def test_the_row_of_each_kind_has_its_run_and_its_metrics(layout):
    assert layout.run("bm25_zs_none_none").rule == "join"
    assert (layout.run(ADAPTER).rule, layout.run("bm25-effnet").rule) == ("search", "fuse")
    assert layout.run(f"{ADAPTER}.no-text") == f"results/cut-down/runs/{ADAPTER}.no-text.trec"
    metrics = {layout.metrics(row.name) for row in rows(layout.config)}
    assert metrics == {f"results/cut-down/metrics/{row.name}.json" for row in rows(layout.config)}
    assert all(Path(path).name.startswith(owner) for path, owner in expected(layout)["metrics"].items())


def test_a_job_that_the_config_does_not_have_is_refused(layout):
    with pytest.raises(InputError, match="vlminilm_full_none_avg: not an experiment of this config's grid"):
        layout.job("embed_questions", {"experiment": "vlminilm_full_none_avg"})


def test_a_model_is_embedded_with_the_checkpoint_that_it_started_from():
    """Which has weights that its own checkpoint leaves out, if it trained fewer."""
    layout = Layout(load_config(["config/viquae.yaml"]), Path())
    for kind in ("train", "embed_questions"):
        weights = layout.job(kind, {"experiment": "clipt5-mt_adapter_none_avg"}).inputs["weights"]
        assert weights["start"].startswith("results/pretraining/checkpoints/")


def test_where_logs_lie(layout):
    assert layout.beside("train", "logs", ".log") == "results/cut-down/logs/train/{experiment}.log"
    assert layout.beside("negatives", "logs", ".log") == "results/{dataset}/logs/negatives/{miner}_{split}.log"
    assert layout.beside("pretrain", "logs", ".log") == "results/pretraining/logs/pretrain/{experiment}.log"
    assert layout.beside("table", "benchmarks", ".tsv") == "results/benchmarks/table/table.tsv"


def test_a_digest_covers_what_comes_before(config, layout):
    parts = [(file, read(Path(file))) for file in ("config/models.yaml", "tests/cut-down.yaml")]

    def changed(change: dict) -> set[str]:
        other = Layout(check([*parts, ("own.yaml", change)]), Path())
        return {file for file in every_job(layout) if layout.digest(file) != other.digest(file)}

    assert changed({"training": {"defaults": {"save_steps": 1, "gpus": 2}}, "compute": {"threads": 7}}) == set()
    assert changed({"features": {"shards": 1, "batch_size": 3}, "embedding": {"batch_size": 3}}) == set()
    tuned = changed({"training": {"experiments": {ADAPTER: {"steps": 7}}}})
    assert {Path(path).name.partition(".")[0] for path in tuned if ADAPTER not in path} == {"table"}
    assert "results/cut-down/embeddings/passages/vlminilm_zs_none_avg/1-of-1" in every_job(layout)
    assert "results/cut-down/embeddings/passages/vlminilm_zs_none_avg/1-of-1" not in tuned
    assert len(changed({"seed": 1})) > len(tuned)
    names = {Path(path).name for path in changed({"lexical": {"b": {"step": 0.25}}})}
    assert {"tuning.json", "bm25_zs_none_none.trec", "bm25-effnet.json", f"{ADAPTER}.trec"} <= names
    assert not {"index", "effnet_zs_none_concat.trec"} & names


def test_what_somebody_put_in_the_place_of_a_result_is_their_own(tmp_path, monkeypatch):
    for name in ("config/sources.yaml", "config/downloads.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    config = load_config(["config/viquae.yaml"], ROOT)
    monkeypatch.chdir(tmp_path)

    def seen() -> tuple[File, str | None]:
        layout = Layout(config, Path())
        file = layout.weights(layout.experiment("dprbert_full_none_1token"))["text"]
        return file, layout.digest(file)

    file, before = seen()
    assert (file.rule, len(before)) == ("repository", 16)
    Path(file).mkdir(parents=True)
    assert seen() == (file, None), "it has no note, and no job will write one"
    write_json(Path(file) / "made.json", {"digest": before})
    assert seen() == (file, before)


def test_own_weights_are_known_by_their_bytes_and_asked_for_until_they_are_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("config/models.yaml", "config/sources.yaml", "config/downloads.yaml", "tests/cut-down.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    own = {"kind": "text", "text": {"architecture": "bert", "separator": ".", "weights": {"path": "mine"}}}
    change = {"models": {"own": own}, "grid": {"include": ["own_zs_none_avg"]}, "fusions": {}, "ablations": None}
    write_json(Path("own.yaml"), change | {"training": {"experiments": None}})

    def seen() -> tuple[File, str | None]:
        layout = Layout(load_config(["tests/cut-down.yaml", "own.yaml"]), Path())
        (file,) = layout.weights(layout.experiment("own_zs_none_avg")).values()
        return file, layout.digest(layout.run("own_zs_none_avg"))

    file, absent = seen()
    assert (file, file.rule) == ("results/by-hand/mine", "by_hand")
    Path("mine").mkdir()
    Path("mine/model.safetensors").write_text("weights")
    file, first = seen()
    assert (file, file.rule, file.known) == ("mine", None, True)
    Path("mine/model.safetensors").write_text("WEIGHTS")
    _, second = seen()
    assert len({absent, first, second}) == 3
    Path("mine/model.safetensors").write_text("weights")
    assert seen()[1] == first
