"""`vlret model describe` on a tiny model: its counts match the model."""

import re

import pytest
import tiny_models
import torch
import yaml

from vlret.cli import main
from vlret.config import load_config
from vlret.encoders.checkpoints import save_checkpoint
from vlret.encoders.visual import VisualEmbedding
from vlret.experiment import Experiment, settings
from vlret.settings import Checkpoint
from vlret.tuning.methods import build


@pytest.fixture(scope="module")
def configured(tmp_path_factory):
    """A config whose grid holds a tiny VL-T5, zero-shot, with LoRA and trained in full."""
    folder = tmp_path_factory.mktemp("models")
    models = {"tiny": tiny_models.vlt5(folder / "vlt5", feature_dim=1280)}
    models["absent"] = {**models["tiny"], "text": {**models["tiny"]["text"], "weights": {"path": "nowhere"}}}
    tunings = ["zs", "lora", "full"]
    rows = [{"model": "tiny", "tuning": tunings, "prefix": "vqa", "pooling": "avg"}]
    rows += [{"model": ["absent", "bm25"], "tuning": "zs", "prefix": "none", "pooling": ["avg", "none"]}]
    config = {"models": models, "grid": {"product": rows}, "fusions": None, "ablations": None}
    own = folder / "own.yaml"
    own.write_text(yaml.safe_dump(config))
    return own


def described(capsys, experiment, configured):
    assert main(["model", "describe", experiment, "--configfile", "config/config.yaml", str(configured)]) == 0
    return capsys.readouterr().out


def numbers(output):
    """The table: part -> parameters, trained, added."""
    rows = re.findall(r"^(\S.*?) +([\d,]+) +([\d,]+) +([\d,]+)$", output, re.MULTILINE)
    return {part: tuple(int(number.replace(",", "")) for number in row) for part, *row in rows}


def test_every_parameter_is_counted_once(capsys, configured):
    counts = numbers(described(capsys, "tiny_full_vqa_avg", configured))
    visual = sum(p.numel() for p in VisualEmbedding(1280, 32, torch.nn.RMSNorm, "each", order=True).parameters())
    assert counts["question: visual embedding"] == (visual, visual, 0)
    assert counts["question: token embedding"] == (285 * 32, 285 * 32, 0)
    layers = 2 * (4 * 32 * 32 + 2 * 32 * 48 + 2 * 32) + 32 * 4 + 32
    assert counts["question: layers"] == (layers, layers, 0)
    total = visual + 285 * 32 + layers
    assert counts["total"] == (total, total, 0)


def test_added_and_published_parameters_are_distinguished(capsys, configured):
    zero_shot = numbers(described(capsys, "tiny_zs_vqa_avg", configured))
    output = described(capsys, "tiny_lora_vqa_avg", configured)
    lora = numbers(output)
    assert zero_shot["total"][1:] == (0, 0)
    assert lora["question: layers"][0] == zero_shot["question: layers"][0]
    added = lora["question: added by tuning"]
    assert added[0] == added[1] == added[2] == lora["total"][0] - zero_shot["total"][0] > 0
    share = re.search(r"([\d.]+) % of the parameters are trained", output)
    assert float(share.group(1)) == pytest.approx(100 * lora["total"][1] / lora["total"][0], abs=0.005)


def test_the_size_equals_that_of_the_checkpoint(capsys, configured, tmp_path):
    config = load_config(["config/config.yaml", configured])
    experiment = Experiment.parse("tiny_lora_vqa_avg")
    text = config.models["tiny"].text
    weights = {"text": text.weights.path, "joint": text.joint.path}
    chosen = settings(config, experiment)
    model = build(chosen, weights, 1280)
    stored = Checkpoint(**{**dict(chosen), "feature_dim": 1280})
    save_checkpoint(tmp_path / "checkpoint", model.own_weights(), stored)
    size = (tmp_path / "checkpoint" / "model.safetensors").stat().st_size / 1e6
    output = re.search(r"checkpoint: ([\d.]+) MB", described(capsys, experiment.name, configured))
    assert float(output.group(1)) == pytest.approx(size, abs=0.02)


@pytest.mark.parametrize(
    ("experiment", "message"),
    [
        ("tiny_zs_none_1token", "not an experiment of this config's grid"),
        ("absent_zs_none_avg", "nowhere: missing; docs/experiments.md says where it comes from"),
        ("bm25_zs_none_none", "BM25 has no encoder"),
    ],
)
def test_errors_are_one_line(capsys, configured, experiment, message):
    assert main(["model", "describe", experiment, "--configfile", "config/config.yaml", str(configured)]) == 1
    assert message in capsys.readouterr().err
