"""Validation, early stopping and the best weights."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tiny import learner, settings, stream, tasks
from toy import Toy

from vlret.encoders.checkpoints import read_checkpoint
from vlret.files import InputError
from vlret.training.fit import Progress
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
