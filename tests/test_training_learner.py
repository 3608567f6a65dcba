"""Optimizer steps: learning rate, decay, precision, gradient checkpointing, compilation."""

import os
import shutil

import numpy as np
import pytest
import torch
from test_training_gradcache import Saved
from tiny import gradients, learner, settings, stream
from torch import nn
from torch._dynamo.utils import counters
from toy import Toy
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from vlret.encoders.inputs import Side
from vlret.files import InputError
from vlret.settings import ExperimentSettings, Training
from vlret.settings import Task as TaskSettings
from vlret.training.batches import Task
from vlret.training.learner import checkpoint_gradients, leave_parts, optimizer_of, parameters_by_part, rate_at
from vlret.training.train import train
from vlret.tuning.methods import build

COMPILER = next(filter(shutil.which, [os.environ.get("CXX", "g++"), "clang++"]), None)


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("linear", lambda optimizer, warmup: get_linear_schedule_with_warmup(optimizer, warmup, 10)),
        ("cosine", lambda optimizer, warmup: get_cosine_schedule_with_warmup(optimizer, warmup, 10)),
        ("constant", get_constant_schedule_with_warmup),
    ],
)
def test_the_learning_rate_equals_transformers(name, oracle, warmup):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = oracle(optimizer, warmup)
    for step in range(11):
        given = Training(steps=10, warmup_steps=warmup, schedule=name)
        assert rate_at(step, given) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step(), schedule.step()


def test_only_matrices_decay():
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.Linear(2, 2))
    model[2].weight.requires_grad_(False)
    matrices, rest = optimizer_of({"encoder": list(model.parameters())}, settings()).param_groups
    assert [len(group["params"]) for group in (matrices, rest)] == [1, 4]
    assert (matrices["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert matrices["params"][0] is model[0].weight


def test_parts_have_learning_rates_and_decay_of_their_own(tmp_path):
    toy = Toy(tmp_path)
    values = ExperimentSettings(
        **toy.settings("adapter", by_part={"visual": {"learning_rate": 3e-4}, "added": {"weight_decay": 0}})
    )
    model = build(values, toy.corpus["weights"], 6)
    parts = parameters_by_part(model)
    assert parts.keys() == {"encoder", "visual", "added"}
    assert sum(map(len, parts.values())) == len(list(model.parameters()))
    optimizer = optimizer_of(parts, values.training)
    found = {id(p): (g["factor"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    for part, factor, decay in (("visual", 0.1, 0.01), ("added", 1.0, 0.0)):
        (each,) = {found[id(p)] for p in parts[part] if p.requires_grad and p.ndim > 1}
        assert each == (pytest.approx(factor), decay)


@pytest.mark.parametrize(
    ("sharing", "images", "kinds", "expected"),
    [
        ("everything", [0, 1], ["viquae"], False),
        ("everything", [0, -1], ["viquae"], True),
        ("nothing", [0, 1], ["viquae"], True),
        ("visual", [0, 1], ["viquae"], False),
        ("everything", [0, 1], ["viquae", "viquae"], True),
        ("everything", [0, 1], ["match_image"], True),
    ],
)
def test_parts_that_texts_without_an_image_leave_unused(tmp_path, sharing, images, kinds, expected):
    toy = Toy(tmp_path)
    values = toy.settings("full")
    values["model"]["sharing"] = sharing
    model = build(ExperimentSettings(**values), toy.corpus["weights"], 6)
    side = Side(["a", "b"], np.array(images), None, None, 16)
    tasks = [Task(kind, side, side, [], TaskSettings(kind=kind)) for kind in kinds]
    assert leave_parts(model, tasks) == expected


def steps(chosen, count=3, **sizes):
    """The losses of `count` steps, and the learner after them."""
    model = learner(chosen, **sizes)
    mixture, pieces = stream(chosen)
    return [float(model.step(step, mixture.place(step)[0], pieces)["loss"]) for step in range(count)], model


def test_accumulated_batches_count_as_their_mean():
    twice = settings(accumulation=2)
    both = learner(twice)
    both.add_gradients(0, 0, stream(twice)[1])
    single, pieces = learner(settings()), stream(settings())[1]
    for _ in range(2):
        single.add_gradients(0, 0, pieces)
    for name, value in gradients(single).items():
        torch.testing.assert_close(gradients(both)[name], value / 2)


def test_gradients_are_clipped_to_the_maximum_norm():
    found = {}
    for largest in (1e-3, 1e3):
        chosen = settings(max_gradient_norm=largest)
        model = learner(chosen)
        found[largest] = model.step(0, 0, stream(chosen)[1])
        moved = next(iter(model.optimizer.state.values()))["exp_avg"]
        assert moved.norm() > 0
        if largest == 1e-3:
            norms = [state["exp_avg"].norm() / 0.1 for state in model.optimizer.state.values()]
            assert torch.stack([norm.double() for norm in norms]).norm().item() == pytest.approx(1e-3, rel=1e-3)
    assert found[1e-3]["gradient_norm"] == found[1e3]["gradient_norm"] > 1e-3


def test_a_non_finite_loss_ends_the_training(tmp_path):
    toy = Toy(tmp_path)
    with pytest.raises(InputError, match=r"the loss is no longer finite at step \d+; lower training.learning_rate"):
        train(settings=toy.settings("full", learning_rate=1e30), **toy.training, out=tmp_path / "out")


def test_bf16_rounds_but_learns_the_same():
    exact, _ = steps(settings(), count=10, dtype=torch.float32)
    rounded, model = steps(settings(precision="bf16"), count=10, dtype=torch.float32)
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.02)
    assert all(parameter.dtype == torch.float32 for parameter in model.trained.values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_fp16_without_a_gpu_is_an_error():
    with pytest.raises(InputError, match=r"training.precision: fp16 needs a GPU; use bf16 or fp32"):
        learner(settings(precision="fp16"))


@pytest.mark.parametrize("chunk", [{}, {"chunk": 3}])
def test_checkpointing_saves_memory_and_changes_nothing(chunk):
    found = {}
    for checkpointing in (False, True):
        chosen = settings(checkpointing=checkpointing, **chunk)
        model = learner(chosen, dropout=0.5, dim=32, layers=6)
        with Saved() as saved:
            model.add_gradients(0, 0, stream(chosen)[1])
        found[checkpointing] = saved.peak, gradients(model)
    assert found[True][0] < 0.7 * found[False][0]
    for name, value in found[False][1].items():
        torch.testing.assert_close(found[True][1][name], value, rtol=1e-10, atol=1e-14)


def test_unsupported_checkpointing_is_an_error():
    with pytest.raises(InputError, match=r"training.checkpointing: no part of this model supports it"):
        checkpoint_gradients(nn.Linear(2, 2))


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="torch.compile needs a C++ compiler")
def test_compilation_changes_neither_losses_nor_weights():
    """With dropout, chunks, and tasks without images."""
    own = {"kinds": ("viquae", "triviaqa"), "chunk": 3}
    exact, plain = steps(settings(**own), count=6, dropout=0.3)
    counters.clear()
    losses, compiled = steps(settings(**own, compile=True), count=6, dropout=0.3)
    assert counters["stats"]["unique_graphs"] >= 4, "both sides, with and without gradients"
    assert losses == pytest.approx(exact, rel=1e-9)
    for name, value in plain.weights().items():
        torch.testing.assert_close(compiled.weights()[name], value, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_training_of_a_joint_encoder_learns_the_same(tmp_path, capsys):
    toy = Toy(tmp_path)
    losses = []
    for compiled in (False, True):
        out = tmp_path / f"compiled-{compiled}"
        train(settings=toy.settings("adapter", compile=compiled, steps=10), **toy.training, out=out)
        losses.append(float(capsys.readouterr().err.split("mean loss ")[1].split()[0]))
    assert losses[1] == pytest.approx(losses[0], abs=2e-3)


def test_inputs_are_pinned_for_a_gpu(monkeypatch):
    """All that a step moves to the GPU: inputs, the order of passages, labels and exclusions."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: made.append(tensor.clone()) or made[-1])
    made: list[torch.Tensor] = []
    piece = next(stream(settings())[1])
    groups = [piece.inputs["questions"], *piece.inputs["passages"]]
    moved = [piece.batch.labels, piece.batch.excluded, piece.inputs["order"]]
    moved += [tensor for group in groups for tensor in group.values()]
    assert {id(tensor) for tensor in made} == {id(tensor) for tensor in moved}
