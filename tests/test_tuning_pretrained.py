"""Our checkpoints: what they hold, and that models round-trip."""

import json
import shutil

import pytest
import torch
import transformers
from parity import FOLDER
from safetensors.torch import load_file, save_file
from tiny_encoders import experiment, small

from vlret.digests import digests
from vlret.encoders.vocabulary import tokenizer_of
from vlret.files import InputError
from vlret.tuning.methods import build
from vlret.tuning.pretrained import from_pretrained, save_pretrained

REGIONS, WIDTH = 3, 6
INPUTS = {
    "features": torch.rand(2, REGIONS, WIDTH, generator=torch.Generator().manual_seed(0)),
    "boxes": torch.rand(2, REGIONS, 4, generator=torch.Generator().manual_seed(1)),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A random T5 in Hugging Face's layout, with fewer rows than VL-T5 has tokens."""
    folder = tmp_path_factory.mktemp("t5")
    config = transformers.T5Config(vocab_size=200, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4)
    torch.manual_seed(5)
    transformers.T5EncoderModel(config).save_pretrained(folder)
    shutil.copy(FOLDER / "tokenizer" / "toy_spiece.model", folder / "spiece.model")
    return {"text": folder}


def settings(method, sharing="everything", tasks=("viquae",), parts=None):
    tuning = {"sharing": parts} if parts else {}
    model = {
        "kind": "joint",
        "backbone": "toy",
        "text": {"architecture": "t5", "separator": "."},
        "visual": {"order": True},
        "head": {"projection": 8},
        "sharing": sharing,
    }
    training = {"tasks": {task: {"kind": task} for task in tasks}}
    return experiment(
        model,
        name="on",
        tuning=small(method, **tuning),
        training=training,
        feature_dim=WIDTH,
    )


def changed(method, weights, sharing="everything"):
    """A model as after training: its trained parameters have changed."""
    settings_ = settings(method, sharing)
    model = build(settings_, weights, WIDTH).eval()
    torch.manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    return model, settings_


def encode(model, weights, settings_):
    texts = tokenizer_of(settings_, weights)(["the red boat", "a mat"], padding=True, return_tensors="pt")
    with torch.no_grad():
        return {side: model.encode(side, {**texts, **INPUTS}) for side in ("question", "passage")}


@pytest.mark.parametrize("sharing", ["everything", "visual+token", "nothing"])
@pytest.mark.parametrize("method", ["zs", "visual", "full"])
def test_a_model_round_trips(weights, tmp_path, method, sharing):
    model, settings_ = changed(method, weights, sharing)
    vectors = encode(model, weights, settings_)
    save_pretrained(model, settings_, tmp_path / "saved")
    torch.manual_seed(123)  # results must not depend on earlier draws
    loaded, read = from_pretrained(tmp_path / "saved", weights)
    assert read == settings_
    again = encode(loaded, weights, read)
    assert all(torch.equal(again[side], vectors[side]) for side in vectors)
    apart = (method, sharing) in {("visual", "nothing"), ("full", "nothing"), ("full", "visual+token")}
    assert torch.equal(vectors["question"], vectors["passage"]) != apart


def test_a_checkpoint_holds_unpublished_parameters(weights, tmp_path):
    sizes = {}
    for method in ("zs", "visual", "full"):
        model, settings_ = changed(method, weights)
        save_pretrained(model, settings_, tmp_path / method)
        stored = load_file(tmp_path / method / "model.safetensors")
        sizes[method] = set(stored)
        published = {name for name, _ in model.named_parameters() if "visual" not in name and "projection" not in name}
        assert set(stored) & published == (published if method == "full" else set())
    assert sizes["zs"] == sizes["visual"] < sizes["full"]


def test_a_checkpoint_that_does_not_fit_is_rejected(weights, tmp_path):
    model, settings_ = changed("visual", weights)
    folder = tmp_path / "saved"
    save_pretrained(model, settings_, folder)
    stored, path = load_file(folder / "model.safetensors"), folder / "model.safetensors"
    name = "question.projection.weight"
    save_file({**stored, name: stored[name][:1].clone()}, path)
    with pytest.raises(InputError, match=rf"does not fit the experiment's settings; .* wrong parameter is {name}"):
        from_pretrained(folder, weights)
    save_file(stored, path)
    (folder / "config.json").write_text(json.dumps(settings_.model_dump(exclude={"feature_dim"})))
    with pytest.raises(InputError, match=r"config\.json: missing 'feature_dim'; remove"):
        from_pretrained(folder, weights)


@pytest.fixture(scope="module")
def others(weights, tmp_path_factory):
    """The same T5 with one number changed."""
    folder = shutil.copytree(weights["text"], tmp_path_factory.mktemp("others") / "t5")
    stored = load_file(folder / "model.safetensors")
    next(iter(stored.values())).view(-1)[7] += 1
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    return {"text": folder}


def test_other_weights_than_it_was_trained_from_are_refused(weights, others, tmp_path):
    model, settings_ = changed("lora", weights)
    known = settings_.model_copy(update={"weights": digests(weights)})
    save_pretrained(model, known, tmp_path / "saved")
    copy = shutil.copytree(weights["text"], tmp_path / "elsewhere")
    assert from_pretrained(tmp_path / "saved", {"text": copy})[1] == known
    message = (
        r"^\S+/saved: trained from other weights than \S+/t5 \(their digest is \w+, that of 'text' was \w+\); give"
    )
    with pytest.raises(InputError, match=message) as caught:
        from_pretrained(tmp_path / "saved", others)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=message):
        build(settings_, {**others, "start": tmp_path / "saved"}, WIDTH)


def test_the_checkpoint_it_started_from_must_be_given(weights, full, tmp_path):
    given = {**weights, "start": full[1]}
    settings_ = settings("lora").model_copy(update={"weights": digests(given)})
    save_pretrained(build(settings_, given, WIDTH), settings_, tmp_path / "on")
    from_pretrained(tmp_path / "on", given)
    with pytest.raises(InputError, match="on: was trained from another checkpoint; give it too, as weights 'start'"):
        from_pretrained(tmp_path / "on", weights)


@pytest.fixture(scope="module")
def full(weights, tmp_path_factory):
    """The checkpoint of a fully trained model, as after pre-training."""
    folder = tmp_path_factory.mktemp("full") / "checkpoint"
    model, settings_ = changed("full", weights)
    save_pretrained(model, settings_, folder)
    return model, folder


def test_an_experiment_starts_from_anothers_weights(weights, full, tmp_path):
    before, start = full
    settings_ = settings("lora")
    model = build(settings_, {**weights, "start": start}, WIDTH).eval()
    expected = encode(before, weights, settings_)
    torch.testing.assert_close(encode(model, weights, settings_), expected)  # LoRA starts as the identity
    save_pretrained(model, settings_, tmp_path / "on")
    stored = load_file(tmp_path / "on" / "model.safetensors")
    assert all("lora_" in name or ".visual_embedding." in name for name in stored)
    again, _ = from_pretrained(tmp_path / "on", {**weights, "start": start})
    torch.testing.assert_close(encode(again, weights, settings_), expected)


def test_training_can_continue_with_the_same_tuning(weights, tmp_path):
    settings_ = settings("adapter")
    first = build(settings_, weights, WIDTH).eval()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter += 0.1 * parameter.requires_grad
    save_pretrained(first, settings_, tmp_path / "first")
    second = build(settings_, {**weights, "start": tmp_path / "first"}, WIDTH).eval()
    torch.testing.assert_close(encode(second, weights, settings_), encode(first, weights, settings_))
    assert second.own_weights().keys() == {name for name, p in second.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("method", ["adapter", "prompt", "lora"])
def test_shared_parts_carry_over_to_other_task_names(weights, tmp_path, method):
    """As after pre-training; per-task parts do not fit other tasks and are rejected."""
    before, after = settings(method, tasks=("triviaqa", "match_image")), settings(method)
    first = build(before, weights, WIDTH).eval()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter += 0.1 * parameter.requires_grad
    save_pretrained(first, before, tmp_path / "first")
    start = {**weights, "start": tmp_path / "first"}
    second = build(after, start, WIDTH).eval()
    torch.testing.assert_close(encode(second, weights, after), encode(first, weights, before))
    assert any("viquae" in name for name in second.own_weights())
    before = settings(method, tasks=("triviaqa", "match_image"), parts="multiple")
    save_pretrained(build(before, weights, WIDTH), before, tmp_path / "first")
    with pytest.raises(InputError, match="does not fit on; the first wrong parameter"):
        build(settings(method, parts="multiple"), start, WIDTH)


def test_starting_from_another_model_or_missing_parts_is_rejected(weights, full, tmp_path):
    _, start = full
    other = settings("zs", sharing="nothing")
    with pytest.raises(InputError, match="checkpoint: its model differs from that of on, which cannot start from it"):
        build(other, {**weights, "start": start}, WIDTH)
    adapted = settings("adapter")
    save_pretrained(build(adapted, weights, WIDTH), adapted, tmp_path / "adapted")
    with pytest.raises(InputError, match="adapted: adapter adds parts that on lacks"):
        build(settings("full"), {**weights, "start": tmp_path / "adapted"}, WIDTH)
