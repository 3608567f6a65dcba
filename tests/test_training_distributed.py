"""Several processes over gloo against one with their joint batch."""

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from parity import arrays, cases
from tiny import gradients, learner, settings, stream, tasks

from vlret.files import InputError
from vlret.training import distributed, state
from vlret.training.distributed import gather
from vlret.training.losses import dpr_loss, scores_of
from vlret.training.pool import PoolValidation
from vlret.training.stops import Stop

PARITY = cases("cvlp", "distributed_dpr_loss*")
SETTINGS = {
    "plain": settings(),
    "chunks": settings(chunk=1),
    "chunks of two batches": settings(chunk=3, accumulation=2),
    "clip": settings(loss={"name": "clip", "temperature": 0.1, "learned": True}),
    "tasks": settings(kinds=("viquae", "triviaqa"), chunk=2),
    "tasks without chunks": settings(kinds=("triviaqa", "viquae"), accumulation=2),
}
DROPOUT = {"chunks": 0.5, "tasks": 0.5}  # where chunks do not depend on the number of processes
STEPS = 4


def start(function, world, folder, *arguments):
    """Run `function(*arguments)` in `world` processes and return each result."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(one_of, (world, port, folder, function, arguments), nprocs=world)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]


def one_of(rank, world, port, folder, function, arguments):
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with distributed.processes():
        torch.save(function(*arguments), folder / f"{rank}.pt")


def trained():
    """Losses and gradients of the first steps and the weights after them, for every kind of training."""
    found = {}
    for name, chosen in SETTINGS.items():
        model = learner(chosen, dropout=DROPOUT.get(name, 0.0))
        mixture, pieces = stream(chosen, distributed.rank(), distributed.world())
        found[name] = []
        for step in range(2):
            loss = model.add_gradients(step, mixture.place(step)[0], pieces)
            found[name].append({"loss": loss, **gradients(model)})
            model.optimizer.zero_grad(set_to_none=True)
        for step in range(2, STEPS):
            model.step(step, mixture.place(step)[0], pieces)
        found[name].append(model.weights())
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return trained(), *start(trained, 2, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_match_one_in_loss_gradients_and_weights(runs, name):
    alone, first, second = (run[name] for run in runs)
    for place, expected in enumerate(alone):
        # Over several steps, Adam amplifies gradients that are zero up to rounding.
        tolerance = {"atol": 1e-12, "rtol": 1e-9} if "loss" in expected else {"atol": 1e-8, "rtol": 1e-6}
        for parameter, value in expected.items():
            assert torch.equal(first[place][parameter], second[place][parameter]), f"{parameter} differs by rank"
            torch.testing.assert_close(first[place][parameter], value, **tolerance)


def test_a_task_does_not_change_unused_parts(runs):
    text, images = runs[1]["tasks without chunks"][:2]
    name = "pairs.biencoder.visual.weight"
    assert text[name].abs().max() == 0
    assert images[name].abs().max() > 0


def resumed(views):
    """For each list of one folder per process, the step of the state that this one resumes from, or the error."""
    found = []
    for folders in views:
        try:
            last = state.last(folders[distributed.rank()])
        except InputError as error:
            found.append(str(error))
        else:
            found.append(last and last["step"])
    return found


def test_all_processes_resume_from_the_first_ones_state(tmp_path):
    """Even where one sees a newer state; one that does not see the first one's stops all."""
    less, more, none = (tmp_path / name for name in ("less", "more", "none"))
    for folder, steps in ((less, (3,)), (more, (3, 6))):
        for step in steps:
            state.save(folder, step, {})
    views = [(none, none), (none, more), (less, more), (more, less)]
    for view, found in zip((more, less), start(resumed, 2, tmp_path, views), strict=True):
        assert found[:3] == [None, None, 3]
        assert found[3].startswith(f"{view}/step-00000006.pt: the first process reads this state, another one cannot; ")


def validated():
    """The MRR of a pool of passages, of which each process encodes a part."""
    with ThreadPoolExecutor(1) as worker:
        return PoolValidation(tasks(settings())[0], 40, seed=1, batch=3).mrr(learner(settings()), worker)


def test_processes_share_a_pool_of_passages(tmp_path):
    assert start(validated, 2, tmp_path) == pytest.approx([validated()] * 2)


def stops():
    """What a process learns of the second one's signal before its third step, and if its first question was quick."""
    stop, learned, began = Stop(), [], time.monotonic()
    if distributed.rank() == 1:
        time.sleep(3)
    for step in range(4):
        if distributed.rank() == 1 and step == 2:
            stop.signal = 15
        learned.append(stop.agreed())
        if step == 0:
            waited = time.monotonic() - began
    distributed.wait()
    return learned, waited


def test_all_processes_learn_of_a_signal_after_the_same_step_and_wait_for_none(tmp_path):
    (first, waited), (second, _) = start(stops, 2, tmp_path)
    assert first == second == [0, 0, 0, 15]
    assert waited < 2, "the second one asks after 3 s"


def original(case):
    """Our loss on this process for a stored case of cvlp's."""
    stored, rank = {name: torch.as_tensor(array) for name, array in arrays(case).items()}, distributed.rank()
    parts = [[stored[f"rank{other}.{part}"] for part in ("q", "c", "labels")] for other in range(distributed.world())]
    questions, passages = (part.clone().requires_grad_() for part in parts[rank][:2])
    counts = [len(part[1]) for part in parts]
    shifted = [torch.where(part[2] < 0, part[2], part[2] + sum(counts[:at])) for at, part in enumerate(parts)]
    joint = gather(questions, [len(part[0]) for part in parts]), gather(passages, counts)
    loss = dpr_loss(*joint, torch.cat(shifted))
    loss.backward()
    found = {
        "loss": loss.detach(),
        "log_probs": scores_of(*joint).log_softmax(1).detach(),
        "label_ids": torch.cat(shifted),
    }
    return {**found, "grad_q": questions.grad, "grad_c": passages.grad}


@pytest.mark.parity
@pytest.mark.parametrize("case", PARITY, ids=lambda case: case.stem)
def test_the_joint_loss_and_its_local_gradients_equal_the_originals(case, tmp_path):
    stored = arrays(case)
    world = len({name.split(".")[0] for name in stored})
    for rank, found in enumerate(start(original, world, tmp_path, case)):
        for name, value in found.items():
            expected = torch.as_tensor(stored[f"rank{rank}.out.{name}"])
            torch.testing.assert_close(value, expected, atol=2e-5, rtol=1e-4)
