"""VL-T5 and VL-BART, encoder and decoder, against stored outputs of the original code."""

from dataclasses import fields

import parity
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from vlret.encoders.bart import Bart, BartConfig
from vlret.encoders.t5 import T5, T5Config, relative_position_bucket
from vlret.encoders.visual import VisualEmbedding

pytestmark = pytest.mark.parity
TOLERANCE = {"atol": 2e-5, "rtol": 1e-4}
CASES = [*parity.cases("vlt5", "vlt5_*"), *parity.cases("vlbart", "vlbart_*")]


class Case:
    """One stored case: our model with its weights, its arrays and its calls."""

    def __init__(self, path):
        self.about, stored = parity.read(path), parity.arrays(path)
        self.arrays = {name: torch.from_numpy(array) for name, array in stored.items()}
        self.sizes, self.bart = self.about["config"], self.about["group"] == "vlbart"
        weights = load_file(path.with_name(self.about["weights_file"]))
        aliases = set(self.about.get("aliases", {}))
        weights = {name: tensor for name, tensor in weights.items() if name not in aliases}
        self.logits_bias = weights.pop("final_logits_bias", torch.zeros(1))
        self.model = self.build().eval()
        for group in self.about.get("tied_groups", []):
            for alias in group[1:]:
                weights.pop(alias, None)
        self.model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in weights.items()})

    def build(self):
        config, model = (BartConfig, Bart) if self.bart else (T5Config, T5)
        named = {field.name for field in fields(config)}
        built = model(config(**{name: value for name, value in self.sizes.items() if name in named}))
        norms = "each" if self.sizes["individual_vis_layer_norm"] else "sum"
        built.encoder.visual_embedding = VisualEmbedding(
            self.sizes["feat_dim"],
            self.sizes["d_model"],
            model.visual_norm,
            norms if self.sizes["use_vis_layer_norm"] else "none",
            self.sizes["use_vis_order_embedding"],
            self.sizes["n_images"],
        )
        return built

    def text(self, mask=True):
        own = {"input_ids": self.arrays["input_ids"]}
        return {**own, "attention_mask": self.arrays["attention_mask"]} if mask else own

    @property
    def image(self):
        return {"features": self.arrays["vis_feats"], "boxes": self.arrays["boxes"]}

    def logits(self, hidden):
        """The language model's scores: VL-T5 scales by d_model**-0.5, VL-BART adds a bias."""
        scaled = hidden if self.bart else hidden * self.sizes["d_model"] ** -0.5
        return scaled @ self.model.shared.weight.T + self.logits_bias

    def shifted(self, labels):
        """The decoder's input for labels: the start token first, padding for ignored labels."""
        start = torch.full_like(labels[:, :1], self.sizes["decoder_start_token_id"])
        moved = torch.cat([start, labels[:, :-1]], dim=1)
        return moved.masked_fill(moved == -100, self.sizes["pad_token_id"])


@pytest.fixture(params=CASES, ids=lambda path: path.stem, scope="module")
def case(request):
    with torch.no_grad():
        yield Case(request.param)


def test_there_are_cases():
    assert CASES, "no folder of parity cases was found"


def close(actual, expected):
    torch.testing.assert_close(actual, expected, **TOLERANCE)


def calls(case):
    """Our keyword arguments of every encoder call with stored arrays."""
    arrays, text, image = case.arrays, case.text(mask="attention_mask" in case.arrays), case.image
    made = {"out": {**text, **image}, "out_a": {**text, **image}, "out_b": {**case.text(mask=False), **image}}
    if "img_order_ids" in arrays:
        order = {"image_ids": arrays["img_order_ids"], "object_ids": arrays["obj_order_ids"]}
        made["out_c"] = {**text, **image, **order}
    if "vis_attention_mask" in arrays:
        made["out_d"] = {**text, **image, "visual_mask": arrays["vis_attention_mask"]}
    if "inputs_embeds" in arrays:
        embedded = {"inputs_embeds": arrays["inputs_embeds"], "attention_mask": arrays["attention_mask"]}
        made["out_e"] = {**embedded, **image}
    return {call: inputs for call, inputs in made.items() if f"{call}.last_hidden_state" in arrays}


def test_every_call_of_the_encoder(case):
    compared = calls(case)
    stored = {name.split(".")[0] for name in case.arrays if name.endswith(".last_hidden_state")}
    assert compared.keys() == stored
    for call, inputs in compared.items():
        close(case.model(**inputs).hidden, case.arrays[f"{call}.last_hidden_state"])


def test_every_layer_and_the_visual_tokens(case):
    if "out_a.block_input" not in case.arrays:
        pytest.skip("the case stores the last layer only")
    stack, seen = case.model.encoder, []
    layers = stack.layers if case.bart else stack.block
    hooks = [layers[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))]
    hooks += [layer.register_forward_hook(lambda module, inputs, output: seen.append(output)) for layer in layers]
    inputs = {**case.text(), **case.image}
    kept = case.model(**inputs, keep=len(layers)).layers
    for hook in hooks:
        hook.remove()
    close(seen[0], case.arrays["out_a.block_input"])
    for layer, output in enumerate(seen[1:]):
        close(output, case.arrays[f"out_a.block_{layer}"])
        close(kept[layer], output if case.bart else stack.final_layer_norm(output))
    regions = case.arrays["out_a.vis_embeds"].shape[1]
    visual, mask = stack.visual_embedding(**case.image, tokens=case.model.shared.weight)
    close(visual, case.arrays["out_a.vis_embeds"])
    assert mask.all()
    assert mask.shape[1] == regions


def test_the_position_bias(case):
    if "out_a.position_bias_plus_mask" not in case.arrays:
        pytest.skip("VL-BART and the long case store no bias")
    expected = case.arrays["out_a.position_bias_plus_mask"]
    text, positions = case.arrays["input_ids"].shape[1], expected.shape[-1]
    mask = F.pad(case.arrays["attention_mask"], (0, positions - text), value=1)
    bias = case.model.encoder.position_bias(text, positions) + (1 - mask[:, None, None, :]) * -10000.0
    close(bias, expected)


def test_every_call_of_the_decoder(case):
    if "decoder_input_ids" not in case.arrays:
        pytest.skip("the case stores no decoder")
    arrays, inputs = case.arrays, {**case.text(), **case.image}
    encoded = case.model(**inputs)
    hidden = case.model.decode(encoded, arrays["decoder_input_ids"])
    close(hidden, arrays["out_dec.decoder_last_hidden_state"])
    close(case.logits(hidden), arrays["out_dec.lm_logits"])
    if "out_dec.return_hidden_state" in arrays:
        close(hidden * case.sizes["d_model"] ** -0.5, arrays["out_dec.return_hidden_state"])
    masked = case.model(**inputs, visual_mask=arrays["vis_attention_mask"])
    close(case.logits(case.model.decode(masked, arrays["decoder_input_ids"])), arrays["out_dec_vismask.lm_logits"])
    if "out_autodec.decoder_last_hidden_state" in arrays:
        own = case.model.decode(encoded, case.shifted(arrays["input_ids"]))
        close(own, arrays["out_autodec.decoder_last_hidden_state"])


@pytest.mark.parametrize(("call", "labels"), [("out_labels", "labels"), ("out_labels_ignore", "labels_with_ignore")])
def test_the_loss_of_the_language_model(case, call, labels):
    if f"{call}.lm_logits" not in case.arrays:
        pytest.skip("the case stores no such loss")
    labels = case.arrays[labels]
    encoded = case.model(**case.text(), **case.image)
    logits = case.logits(case.model.decode(encoded, case.shifted(labels)))
    close(logits, case.arrays[f"{call}.lm_logits"])
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    if f"{call}.loss_none" in case.arrays:
        close(losses, case.arrays[f"{call}.loss_none"])
    if f"{call}.loss_mean" in case.arrays:
        close(losses.sum() / (labels != -100).sum(), case.arrays[f"{call}.loss_mean"])


def test_the_first_decoder_position_does_not_depend_on_later_ones(case):
    if case.model.decoder is None:
        pytest.skip("the case has no decoder")
    encoded = case.model(**case.text(mask="attention_mask" in case.arrays), **case.image)
    start = torch.full_like(case.arrays["input_ids"][:, :3], case.sizes["decoder_start_token_id"])
    torch.testing.assert_close(case.model.decode(encoded)[:, 0], case.model.decode(encoded, start)[:, 0], **TOLERANCE)


@pytest.mark.parametrize("path", parity.cases("vlt5", "t5_relative_position_bucket"), ids=lambda path: path.stem)
def test_buckets_of_relative_positions(path):
    stored = {name: torch.from_numpy(array) for name, array in parity.arrays(path).items()}
    distance = stored.pop("relative_position")
    for name, expected in stored.items():
        kind, buckets = name.rsplit("_", 1)
        assert torch.equal(relative_position_bucket(distance, kind == "bidirectional", int(buckets), 128), expected)
