"""What each tuning method adds and trains, with tiny encoders of every kind."""

import copy
import re
from pathlib import Path

import pytest
import torch
from tiny_encoders import ENCODERS, batch, small, tuned, tuning, untuned
from torch.nn import functional as F

from vlret.encoders.joint import AdapterSlot
from vlret.encoders.tasks import activate
from vlret.files import InputError
from vlret.settings import TUNING
from vlret.tuning.methods import METHODS, add_nothing, tune

VISUAL = r".*\.visual_embedding\..*"
NORMS = r"(?!.*visual_embedding)(?!.*adapter).*(layer_?norm|LayerNorm|norm_embedding)[^.]*\.(weight|bias)"
BIASES = r".*(\.bias|relative_attention_bias\.weight)"
SAMPLERS = r".*adapter\.adapters\.viquae\.(down|up)_sampler\."
HYPER = r".*(shared_task_embed|adapter_layers_hyper_net)\..*"
# What a method adds, and which existing parameters it trains.
EXPECTED = {
    "zs": ("none", "none"),
    "full": ("none", ".*"),
    "visual": ("none", VISUAL),
    "bitfit": ("none", f"{VISUAL}|{BIASES}"),
    "projection": ("none", rf"{VISUAL}|question\.projection\.weight"),
    "prompt": (r".*\.encoder\.prompt\.prompts\.viquae\.prefix_embedding\.[013]\.(weight|bias)", VISUAL),
    "adapter": (SAMPLERS + "(weight|bias)", VISUAL),
    "adapter+projection": (SAMPLERS + "(weight|bias)", rf"{VISUAL}|question\.projection\.weight"),
    "compacter": (SAMPLERS + "(phm_rule|W|b)", VISUAL),
    "lradapter": (SAMPLERS + "(W_left|W_right|b)", VISUAL),
    "hyperformer": (HYPER, VISUAL),
    "lora": (r".*\.(q|v|q_proj|v_proj|query|value)\.lora_[AB]\.viquae\.weight", VISUAL),
    "ia3": (r".*\.(k|v|wo|k_proj|v_proj|fc2|key|value|dense)\.ia3_l\.viquae", VISUAL),
}
# Two encoder layers and, except for BERT, two decoder layers: sublayers, attentions.
PLACES = {"bert": (4, 2), "t5": (10, 6), "bart": (10, 6)}


def matching(pattern, names):
    return {name for name in names if re.fullmatch(pattern, name)}


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def outputs(model, side="question"):
    with torch.no_grad():
        return model.encode(side, batch())


def shake(model):
    """Change every parameter, even those initialised to 0 or 1."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("method", METHODS)
def test_exactly_what_a_method_adds_and_trains(method, kind):
    model = untuned(kind)
    before = {id(parameter) for parameter in model.parameters()}
    tune(model, small(method))
    names = {name: id(parameter) for name, parameter in model.named_parameters()}
    added, also = EXPECTED[method]
    assert {name for name, own in names.items() if own not in before} == matching(added, names)
    assert trained(model) == matching(added, names) | matching(also, names)
    sublayers, attentions = PLACES[kind]
    counts = {"adapter": 4 * sublayers, "compacter": 6 * sublayers, "lradapter": 6 * sublayers, "lora": 4 * attentions}
    counts["ia3"] = 2 * attentions + sublayers - attentions
    if method in counts:
        assert len(matching(added, names)) == counts[method]


@pytest.mark.parametrize("kind", ENCODERS)
def test_settings_unfreeze_visual_embedding_norms_and_biases(kind):
    plain, biased = (tuned("lora", kind, settings={"visual": False, "bias": bias}) for bias in ("none", "all"))
    assert not matching(VISUAL, trained(plain))
    assert trained(biased) - trained(plain) == matching(BIASES, dict(plain.named_parameters()))
    nothing_visual = {"visual": False, "unfreeze_layer_norms": True}
    assert not matching(VISUAL, trained(tuned("adapter", kind, settings=nothing_visual)))
    for method in ("adapter", "compacter", "hyperformer"):
        frozen, model = tuned(method, kind), tuned(method, kind, settings={"unfreeze_layer_norms": True})
        norms = trained(model) - trained(frozen)
        assert norms == matching(NORMS, dict(frozen.named_parameters())) - trained(frozen)
        assert len(norms) == {"bert": 10, "t5": 12, "bart": 24}[kind]


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_cross_attention_adapters_are_optional(kind):
    modules = dict(tuned("adapter", kind, settings={"cross_attention": False}).named_modules())
    empty = [name for name, module in modules.items() if isinstance(module, AdapterSlot)]
    assert len(empty) == 2
    assert all("enc_attn_adapter" in name for name in empty)
    assert not any(isinstance(module, AdapterSlot) for module in tuned("adapter", kind).modules())


@pytest.mark.parametrize("sharing", ["everything", "visual"])
@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("method", [name for name in METHODS if name != "zs"])
def test_a_step_lowers_the_loss_and_changes_only_trained_parameters(method, kind, sharing):
    torch.set_num_threads(1)
    model = tuned(method, kind, sharing)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(2):
        vectors = [model.encode(side, batch(seed=seed)) for seed, side in enumerate(("question", "passage"))]
        losses.append(F.cross_entropy(vectors[0] @ vectors[1].T / 0.1, torch.arange(3)))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[1] < losses[0]
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved <= trained(model)
    shared = sharing == "everything" or method == "visual"
    assert {name.split(".")[0] for name in moved} == ({"question"} if shared else {"question", "passage"})


@pytest.mark.parametrize("method", ["prompt", "adapter", "compacter", "lradapter", "hyperformer", "lora", "ia3"])
def test_every_added_part_learns(method):
    model = tuned(method)
    shake(model)
    model.encode("question", batch())[:, 0].sum().backward()
    added = matching(EXPECTED[method][0], trained(model))
    assert added
    assert all(p.grad is not None and p.grad.any() for name, p in model.named_parameters() if name in added)


PER_TASK = {
    **{method: {"sharing": "multiple"} for method in ("prompt", "adapter", "compacter", "lradapter", "lora", "ia3")},
    "hyperformer": {},
}


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("method", PER_TASK)
def test_only_the_active_tasks_parts_learn(method, kind):
    model = tuned(method, kind, "visual", ("a", "b"), settings=PER_TASK[method])
    shake(model)
    gradients = trained(model)
    first = outputs(model)
    activate(model, "b")
    second = outputs(model)
    assert not torch.allclose(first, second)
    assert trained(model) == gradients
    model.encode("question", batch())[:, 0].sum().backward()
    learning = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(".b." in name or name.endswith(".b") for name in learning)
    assert not any(".a." in name or name.endswith(".a") for name in learning)
    activate(model, "a")
    assert torch.equal(outputs(model), first)
    with pytest.raises(ValueError, match="task 'c': known are a, b"):
        activate(model, "c")


@pytest.mark.parametrize("method", [method for method in PER_TASK if method != "hyperformer"])
def test_a_single_part_serves_every_task(method):
    model = tuned(method, tasks=("a", "b"))
    shake(model)
    first = outputs(model)
    activate(model, "b")
    assert torch.equal(outputs(model), first)
    assert not any(".b." in name for name in trained(model) if not name.endswith("sampler.b"))
    with pytest.raises(ValueError, match="known are a, b"):
        activate(model, "c")


@pytest.mark.parametrize("sharing", ["everything", "visual+token"])
@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_holds_and_restores_trained_and_unpublished_parameters(method, kind, sharing):
    model, again = (tuned(method, kind, sharing, seed=seed) for seed in (0, 0))
    own = model.own_weights()
    named = dict(model.named_parameters())
    unpublished = matching(rf"{VISUAL}|.*\.projection\.weight", named)
    assert own.keys() == trained(model) | unpublished
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name in sorted(own):
            own[name].add_(torch.randn(own[name].shape, generator=generator))
    weights = {name: parameter.detach().clone() for name, parameter in own.items()}
    assert not torch.allclose(outputs(model), outputs(again))
    again.restore(weights, Path("checkpoint"))
    for side in ("question", "passage"):
        assert torch.equal(outputs(model, side), outputs(again, side))


@pytest.mark.parametrize("method", METHODS)
def test_added_parts_depend_on_the_seed(method):
    first, second, other = (tuned(method, seed=seed) for seed in (0, 0, 1))
    pairs = [(p, dict(second.named_parameters())[name]) for name, p in first.named_parameters()]
    assert all(torch.equal(a, b) for a, b in pairs)
    drawn = {
        name
        for name in trained(first)
        if re.fullmatch(r".*(lora_A|adapters|prompts|hyper_net).*weight(?<!Norm.weight)|.*\.W.*", name)
    }
    named = dict(other.named_parameters())
    assert all(not torch.equal(p, named[name]) for name, p in first.named_parameters() if name in drawn)


SHARED = [
    *((method, {"sharing": sharing}) for method in ("prompt", "lora", "ia3") for sharing in ("single", "multiple")),
    *(
        (method, {"sharing": sharing, **({"rule": "shared"} if method == "compacter" else {})})
        for method in ("adapter", "adapter+projection", "compacter", "lradapter")
        for sharing in ("single", "multiple", "down", "up")
    ),
    ("hyperformer", {}),
]


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize(("method", "settings"), SHARED)
def test_each_parameter_has_one_name(method, settings, kind):
    model = tuned(method, kind, tasks=("a", "b"), settings=settings)
    assert model.state_dict().keys() == dict(model.named_parameters()).keys()


@pytest.mark.parametrize(("method", "settings"), [*((name, {}) for name in METHODS), ("compacter", {"rule": "shared"})])
def test_a_copy_of_a_tuned_model_is_independent(method, settings):
    model = tuned(method, tasks=("a", "b"), settings=settings)
    before, twin = outputs(model), copy.deepcopy(model)
    shake(twin)
    activate(twin, "b")
    assert torch.equal(outputs(model), before)
    assert not torch.allclose(outputs(twin), before)


def test_every_method_has_settings_whose_defaults_fit_an_encoder():
    assert METHODS.keys() == TUNING.keys()
    for method, settings in TUNING.items():
        assert (METHODS[method].add is not add_nothing) == settings.ADDS
        tune(untuned(), tuning(method))


@pytest.mark.parametrize("method", ["projection", "adapter+projection"])
def test_methods_that_train_a_head_need_one(method):
    with pytest.raises(InputError, match="no head to train"):
        tune(untuned(projection=None), small(method))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (small("adapter", reduction_factor=17), "reduction_factor 17: larger than"),
        (small("compacter", division=3), "division: 3 does not divide 16 and 4"),
    ],
)
def test_settings_that_do_not_fit_the_encoder_are_rejected(settings, message):
    with pytest.raises(InputError, match=message):
        tune(untuned(), settings)
