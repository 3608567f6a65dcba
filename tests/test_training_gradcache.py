"""Chunked batches: the gradients of the whole batch in a fraction of the memory."""

from collections import Counter

import pytest
import torch
from tiny import SEED, Encoder, gradients, learner, settings, sides, stream

from vlret.files import InputError
from vlret.training.batches import Example, Mixture, Task
from vlret.training.learner import Learner
from vlret.training.pieces import pieces, seed_of

DIM = 256


def first_step(chosen, dropout=0.0):
    model = learner(chosen, dropout)
    mixture, pieces = stream(chosen)
    loss = model.add_gradients(0, mixture.place(0)[0], pieces)
    return model, loss


def close(found, expected):
    assert found.keys() == expected.keys()
    assert any(value.abs().max() > 0 for value in expected.values())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-13, rtol=1e-9)


@pytest.mark.parametrize("loss", ["dpr", "clip"])
@pytest.mark.parametrize("chunk", [1, 3, 4])
def test_chunks_have_the_gradients_of_the_whole_batch(chunk, loss):
    own = {"loss": {"name": loss, "temperature": 0.2, "learned": True}}
    whole, expected = first_step(settings(**own))
    chunked, found = first_step(settings(**own, chunk=chunk))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    close(gradients(chunked), gradients(whole))


def test_dropout_is_equal_in_both_passes():
    """The oracle keeps all chunks' graphs and backpropagates the joint loss at once."""
    chosen = settings(chunk=3)
    chunked, found = first_step(chosen, dropout=0.5)
    oracle = learner(chosen, 0.5)
    pieces = stream(chosen)[1]
    vectors = []
    for number in range(3):
        piece = next(pieces)
        torch.manual_seed(seed_of(SEED, 0, 0, number))
        vectors.append(oracle.pairs(**piece.inputs))
    questions, passages = (torch.cat(parts) for parts in zip(*vectors, strict=True))
    loss = oracle.objectives[0](questions, passages, piece.batch.labels, piece.batch.excluded)
    loss.backward()
    torch.testing.assert_close(found, loss.detach(), rtol=1e-12, atol=0)
    close(gradients(chunked), gradients(oracle))
    assert not torch.allclose(found, first_step(settings(chunk=3))[1]), "dropout is active"


class Saved:
    """Counts the distinct bytes that graphs hold, and their maximum over time."""

    def __init__(self):
        self.held, self.now, self.peak = Counter(), 0, 0

    def __enter__(self):
        self.hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: Held(self, tensor), lambda held: held.tensor
        )
        self.hooks.__enter__()
        return self

    def __exit__(self, *raised):
        self.hooks.__exit__(*raised)


class Held:
    def __init__(self, saved, tensor):
        memory = tensor.untyped_storage()
        self.saved, self.tensor, self.key, self.bytes = saved, tensor, memory.data_ptr(), memory.nbytes()
        saved.now += self.bytes * (saved.held[self.key] == 0)
        saved.held[self.key] += 1
        saved.peak = max(saved.peak, saved.now)

    def __del__(self):
        self.saved.held[self.key] -= 1
        self.saved.now -= self.bytes * (self.saved.held[self.key] == 0)


def peak(questions, chunk=None):
    """The peak number of bytes held by a step's graphs."""
    chosen = settings(batch_size=questions, negatives_per_question=1, **({"chunk": chunk} if chunk else {}))
    side = sides()[0]
    units = len(side)
    examples = [Example(n % units, f"e{n}", (n % units,), {"random": [(n + 1) % units]}) for n in range(questions)]
    task = Task("viquae", side, side, examples, chosen.of_task("viquae"))
    model = Learner(Encoder(DIM, dropout=0.1, layers=12), [task], chosen, SEED)
    with Saved() as saved:
        model.add_gradients(0, 0, pieces(Mixture([task], "round-robin", 1, 0, 1, chunk), range(1), 0, 1))
    assert saved.now == 0
    return saved.peak


def test_a_batch_of_1024_with_hard_negatives_fits_in_the_memory_of_16():
    torch.set_num_threads(1)
    plain = peak(16)
    vectors = (1024 + 2 * 1024) * DIM * torch.float32.itemsize
    assert peak(1024, chunk=16) <= plain + vectors
    assert peak(128) > 5 * plain, "without chunks it grows with the batch"


def test_a_task_that_trains_nothing_is_an_error():
    chosen = settings()
    model = learner(chosen)
    for parameter in model.pairs.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(InputError, match=r"training.tasks.viquae: uses no parameter that this tuning method trains"):
        model.add_gradients(0, 0, stream(chosen)[1])
