"""Validation, early stopping and the best weights."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from tiny import learner, settings, stream, tasks
from toy import Toy

from vlret.encoders.checkpoints import read_checkpoint
from vlret.files import InputError
from vlret.training.batches import Example
from vlret.training.fit import Progress
from vlret.training.pool import PoolValidation, first_ranks
from vlret.training.train import train
from vlret.training.validate import Validation, ranks


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return Toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def worker():
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.mark.parametrize("chunk", [None, 3])
def test_the_mrr_equals_a_loop_over_pools(worker, chunk):
    chosen = settings()
    model = learner(chosen, dropout=0.5)
    validation = Validation(tasks(chosen)[0], 3, seed=1, chunk=chunk)
    found = validation.mrr(model, worker)
    assert found == validation.mrr(model, worker), "the same pools, no dropout"
    reciprocal = []
    for number in range(3):
        batch = validation.batches[number]
        side = batch.task.questions
        with torch.no_grad():
            questions = [model.pairs.biencoder.encode("question", side.inputs([unit]))[0] for unit in batch.units]
            passages = [model.pairs.biencoder.encode("passage", side.inputs([row]))[0] for row in batch.rows]
        for place, question in enumerate(questions):
            scores = [float(question @ passage) for passage in passages]
            own = int(batch.labels[place])
            kept = [row for row in range(len(scores)) if not batch.excluded[place, row]]
            reciprocal.append(1 / sum(scores[row] >= scores[own] - 1e-12 for row in kept))
    assert found == pytest.approx(sum(reciprocal) / len(reciprocal))


def test_pool_sizes_are_bounded_by_the_split():
    chosen = settings(batch_size=32)
    assert len(Validation(tasks(chosen)[0], 1, seed=1, chunk=None).batches[0].units) == 20


def pooled(size, seed=1):
    """A validation of 12 questions: each has one or two relevant passages, and mined ones."""
    examples = [
        Example(unit, f"e{unit}", (unit,), {"random": [unit + 3, unit + 9]}, (unit + 20,) * (unit % 2))
        for unit in range(12)
    ]
    return PoolValidation(replace(tasks(settings())[0], examples=examples), size, seed, batch=5)


@pytest.mark.parametrize("depth", [100, 10])
def test_the_mrr_of_a_pool_equals_a_loop_over_its_passages(worker, monkeypatch, depth):
    monkeypatch.setattr("vlret.training.pool.DEPTH", depth)
    model, validation = learner(settings(), dropout=0.5), pooled(33)
    found = validation.mrr(model, worker)
    assert found == validation.mrr(model, worker), "no dropout"
    side, vectors = validation.questions, {"question": [], "passage": []}
    with torch.no_grad():
        for name, units in (("question", range(12)), ("passage", validation.rows)):
            vectors[name] = [model.pairs.biencoder.encode(name, side.inputs([unit]))[0] for unit in units]
    reciprocal = []
    for unit, question in enumerate(vectors["question"]):
        own = {unit, unit + 20} if unit % 2 else {unit}
        scores = {int(row): float(question @ v) for row, v in zip(validation.rows, vectors["passage"], strict=True)}
        best = max(scores[row] for row in own)
        rank = 1 + sum(score >= best for row, score in scores.items() if row not in own)
        reciprocal.append(1 / rank if rank <= depth else 0)
    assert len(scores) == 33
    assert (0 in reciprocal) == (depth == 10), "ranks beyond it are not found"
    assert found == pytest.approx(sum(reciprocal) / 12, abs=1e-12)
    assert len(set(reciprocal)) > 3


def test_a_constant_encoder_gains_nothing_in_a_pool(worker):
    model = learner(settings())
    with torch.no_grad():
        for parameter in model.pairs.parameters():
            parameter.zero_()
        for side in model.pairs.biencoder.sides.values():
            side.bias.fill_(1)
    expected = sum(1 / (34 - (1 + unit % 2)) for unit in range(12)) / 12
    assert pooled(33).mrr(model, worker) == pytest.approx(expected), "all others before the first relevant one"
    scores = torch.zeros(2, 200)
    relevant = torch.arange(200).expand(2, -1) >= torch.tensor([[199], [120]])
    assert first_ranks(scores, relevant).tolist() == [200, 121]


def test_a_pool_has_relevant_then_the_best_mined_then_random_passages():
    relevant = {*range(12), *range(21, 32, 2)}
    best = {unit + 3 for unit in range(12)}
    assert {*pooled(18).rows} == relevant
    some = {*pooled(20).rows}
    assert relevant < some <= relevant | best
    every = relevant | best | {unit + 9 for unit in range(12)}
    assert {*pooled(len(every)).rows} == every
    more = pooled(len(every) + 4)
    assert every < {*more.rows}
    assert len(more.rows) == len(every) + 4
    assert more.rows.tolist() == sorted(pooled(len(every) + 4).rows)
    assert {tuple(pooled(len(every) + 4, seed).rows) for seed in range(9)} != {tuple(more.rows)}
    assert pooled(10**6).rows.tolist() == list(range(40))
    with pytest.raises(
        InputError, match=r"^training.validation_pool: 17 passages .* the 18 relevant .*; set it to 18 or"
    ):
        pooled(17)


class Given:
    """A validation with predefined results."""

    def __init__(self, *values):
        self.values = iter(values)

    def mrr(self, model, worker):
        return next(self.values)


def test_best_weights_are_kept_and_patience_stops_training():
    training = settings(validate_every=2, patience=2)
    model = learner(settings())
    progress = Progress(model, Given(0.3, 0.5, 0.5, 0.4), training)
    seen = []
    for step in range(1, 9):
        with torch.no_grad():
            next(iter(model.trained.values())).fill_(step)
        seen.append((progress.validate(step, None), progress.over))
    assert [mrr for mrr, _ in seen] == [None, 0.3, None, 0.5, None, 0.5, None, 0.4]
    assert [over for _, over in seen] == [False] * 7 + [True]
    assert (progress.best["step"], progress.best["mrr"]) == (4, 0.5), "a tie is no improvement"
    progress.finish("tiny")
    assert (next(iter(model.trained.values())) == 4).all()


def test_the_checkpoint_has_the_best_weights_after_early_stopping(toy, monkeypatch, capsys):
    out, measured, weights = toy.folder / "checkpoints" / "early", iter([0.2, 0.6, 0.1, 0.3, 0.9]), []
    take = Validation.mrr

    def given(self, model, worker):
        assert 0 < take(self, model, worker) <= 1
        weights.append({name.removeprefix("pairs.biencoder."): value for name, value in model.weights().items()})
        return next(measured)

    monkeypatch.setattr(Validation, "mrr", given)
    chosen = toy.settings("full", validate_every=3, patience=2)
    train(settings=chosen, **toy.training, **toy.validation, out=out)
    stored, _ = read_checkpoint(out)
    assert len(weights) == 4
    assert all(torch.equal(value, weights[1][name]) for name, value in stored.items())
    assert "best validation MRR 0.6000 after step 6" in capsys.readouterr().err


def test_validation_improves_with_training(toy, monkeypatch):
    values = []
    take = Validation.mrr
    monkeypatch.setattr(Validation, "mrr", lambda *given: values.append(take(*given)) or values[-1])
    chosen = toy.settings("full", validate_every=20)
    train(settings=chosen, **toy.training, **toy.validation, out=toy.folder / "checkpoints" / "helped")
    assert len(values) == 3
    assert values[-1] > values[0] > 0.1


def test_validation_in_a_pool_improves_with_training(toy, monkeypatch):
    values = []
    take = PoolValidation.mrr
    monkeypatch.setattr(PoolValidation, "mrr", lambda *given: values.append(take(*given)) or values[-1])
    chosen = toy.settings("full", validate_every=20, validation_pool=40)
    train(settings=chosen, **toy.training, **toy.validation, out=toy.folder / "checkpoints" / "pooled")
    assert len(values) == 3
    assert values[-1] > values[0] > 0.03


@pytest.mark.parametrize(
    ("given", "own", "message"),
    [
        ([], {}, "validate_every: no judgements to validate with"),
        (["validation_qrels"], {}, "training.negatives: missing mined passages of random"),
        (
            ["validation_qrels", "validation_negatives"],
            {"tasks": {"t": {"kind": "triviaqa"}}},
            "needs a task of kind viquae",
        ),
    ],
)
def test_missing_validation_files_are_named(toy, given, own, message):
    files = {name: toy.validation[name] for name in given}
    with pytest.raises(InputError, match=message):
        train(settings=toy.settings("full", validate_every=5, **own), **toy.training, **files, out=toy.folder / "no")


def test_dropout_is_active_again_after_a_validation(worker):
    model = learner(settings(), dropout=0.5)
    Validation(tasks(settings())[0], 1, seed=1, chunk=None).mrr(model, worker)
    losses = [model.add_gradients(step, 0, stream(settings())[1]) for step in (0, 1)]
    assert losses[0] != losses[1], "the same batch with different dropout"


def test_scores_that_are_not_numbers_are_an_error_and_no_first_rank():
    scores = torch.tensor([[0.5, 0.1], [torch.nan, torch.nan]])
    with pytest.raises(InputError, match="validation: scores are not numbers"):
        ranks(scores, torch.tensor([0, 1]))
    assert ranks(scores[:1], torch.tensor([0])).tolist() == [1]
