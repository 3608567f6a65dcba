import time
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
from tiny import Read

from vlret.encoders.inputs import Side
from vlret.files import InputError
from vlret.settings import Task as TaskSettings
from vlret.training.batches import Batches, Example, Mixture, Task
from vlret.training.epochs import Epochs

SETTINGS = {
    "kind": "viquae",
    "batch_size": 4,
    "negatives_per_question": 2,
    "negatives": {"bm25": 0.5, "article": 0.5},
    "weight": 1.0,
}
STEPS = 40
DRAWN = [[4, 6, 10, 8], [0, 9, 4, 7], [1, 5, 8, 2]]  # by version 1 of `training train`, whose batches these were


class Words:
    """A tokenizer with one id per text, so that a batch can be decoded."""

    pad_token_id, model_max_length = -1, 10**9

    def __call__(self, texts, **_):
        return Read([[int(text)] for text in texts])


def side(count):
    return Side([str(unit) for unit in range(count)], None, None, Words(), 8)


def mined(unit):
    """Negatives of a question, one of them relevant to the next question but one."""
    return {"bm25": [900, 901, 10 * ((unit + 2) % 12)], "article": [unit + 500]}


EXAMPLES = [Example(unit, f"e{unit // 2}", (10 * unit, 10 * unit + 1), mined(unit)) for unit in range(12)]


def task(examples=EXAMPLES, name="asked", **settings):
    return Task(name, side(12), side(1000), examples, TaskSettings(**{**SETTINGS, **settings}))


@pytest.fixture
def batches():
    return Batches(task(), (7, 0))


def test_a_batch_is_a_function_of_seed_and_step(batches):
    again, other, of_another_task = (Batches(task(), seed) for seed in ((7, 0), (8, 0), (7, 1)))
    assert [batches.draw(step) for step in (5, 0)] == [again.draw(step) for step in (5, 0)]
    assert [batches.draw(step) for step in range(9)] != [other.draw(step) for step in range(9)]
    assert [batches.draw(step) for step in range(9)] != [of_another_task.draw(step) for step in range(9)]
    assert batches.draw(0) != batches.draw(1)


def test_questions_of_random_entities_are_drawn_as_ever():
    """Trainings of earlier versions have these batches."""
    batches = Batches(task(), (7, 0), sampling="entities")
    drawn = [[example.unit for example in batches.draw(step)[0]] for step in range(3)]
    assert drawn == DRAWN
    assert {example.unit for step in range(STEPS) for example in batches.draw(step)[0]} == set(range(12))
    assert batches.epoch == 3


def counted(entities):
    """Examples of entities with so many questions."""
    owners = [name for name, count in enumerate(entities) for _ in range(count)]
    return [Example(unit, f"e{owner}", (unit,), {}) for unit, owner in enumerate(owners)]


def epochs_of(examples, size, epochs=2, seed=7):
    """The units of each batch of some epochs, after checking that batches are full and their entities distinct."""
    batches = Batches(task(examples, batch_size=size), (seed, 0))
    found = []
    for epoch in range(epochs):
        chosen = [batches.draw(epoch * batches.epoch + number)[0] for number in range(batches.epoch)]
        assert all(len({example.entity for example in batch}) == size for batch in chosen)
        found.append([[example.unit for example in batch] for batch in chosen])
    return found


@pytest.mark.parametrize("entities", [[2] * 6, [3, 3, 2, 2, 1, 1], [1] * 12, [3] * 4])
def test_an_epoch_shows_every_question_once(entities):
    epochs = epochs_of(counted(entities), 4, 5)
    for epoch in epochs:
        assert sorted(unit for batch in epoch for unit in batch) == list(range(12))
    assert len({str(epoch) for epoch in epochs}) == 5, "each epoch has another order"
    assert epochs != epochs_of(counted(entities), 4, 5, seed=8)


@pytest.mark.parametrize(
    ("entities", "size", "length", "most"),
    [
        ([2] * 7, 4, 4, 2),  # the last batch has two places left
        ([9, 1, 1, 1, 1], 4, 9, 7),  # 27 places of the others' 4 questions
        ([9, 4, 2, 2, 1], 4, 9, 4),  # of 27 places, 4 questions of the second entity take 9 at most
        ([500, *[5] * 92], 32, 500, 34),  # 15,500 places of the others' 460 questions
        ([4, 1, 1, 1], 4, 4, 4),  # each entity in every batch
    ],
)
def test_places_that_remain_are_filled_evenly(entities, size, length, most):
    for epoch in epochs_of(counted(entities), size):
        assert len(epoch) == length
        shown = Counter(unit for batch in epoch for unit in batch)
        assert len(shown) == sum(entities)
        assert max(shown.values()) == most
        first = 0
        for count in entities:
            own = [shown[unit] for unit in range(first, first + count)]
            assert max(own) - min(own) <= 1
            assert sum(own) == length or max(own) >= most - 1, "as often as any, if not in every batch"
            first += count


def test_any_batch_is_known_without_those_before_it():
    examples = counted([1 + unit % 5 for unit in range(40)])
    whole = Batches(task(examples), (7, 0))
    expected = [whole.draw(number) for number in range(70)]
    assert whole.epoch == 30
    for number in (69, 0, 35, 34, 68):
        assert Batches(task(examples), (7, 0)).draw(number) == expected[number]


def test_questions_of_an_epoch_meet_all_others():
    """Any two entities are in a batch together about equally often."""
    met = Counter()
    for epoch in epochs_of(counted([3] * 12), 4, 400):
        for batch in epoch:
            met.update(combinations(sorted(unit // 3 for unit in batch), 2))
    assert len(met) == 66
    # 400 epochs of 9 batches with 6 pairs each, among 66 pairs
    assert all(abs(times - 327) < 90 for times in met.values())


def test_planning_an_epoch_is_quick():
    random = np.random.default_rng(0)
    counts = np.bincount(random.integers(0, 1000, 15_000))
    start = time.process_time()
    epochs = Epochs(counts, 128, (7, 0))
    epochs.batch(0)
    assert time.process_time() - start < 1


def test_entities_are_distinct_and_every_question_is_drawn(batches):
    seen = set()
    for step in range(STEPS):
        chosen, relevant, _ = batches.draw(step)
        assert len({example.entity for example in chosen}) == SETTINGS["batch_size"]
        assert all(row in example.relevant for row, example in zip(relevant, chosen, strict=True))
        seen |= {(example.unit, row) for row, example in zip(relevant, chosen, strict=True)}
    assert len({unit for unit, _ in seen}) == 12
    assert len(seen) > 12, "the relevant passage is drawn, not always the first"


def test_hard_negatives_come_from_the_miners_without_repetition(batches):
    sources = set()
    for step in range(STEPS):
        chosen, _, negatives = batches.draw(step)
        for example, own in zip(chosen, negatives, strict=True):
            assert len(own) == len(set(own)) == 2
            assert set(own) <= {row for rows in example.negatives.values() for row in rows}
            sources |= {"article" if row in example.negatives["article"] else "bm25" for row in own}
    assert sources == {"bm25", "article"}


@pytest.mark.parametrize(("world", "chunk", "pieces"), [(1, None, 1), (2, None, 2), (1, 3, 2), (2, 1, 4)])
def test_labels_and_exclusions_match_the_rows_for_any_chunking(batches, world, chunk, pieces):
    cut, found = Batches(task(), (7, 0), world, chunk), False
    for step in range(STEPS):
        chosen, relevant, negatives = batches.draw(step)
        batch = cut[step]
        assert cut.draw(step) == (chosen, relevant, negatives)
        assert len(batch.spans) == len(batch.passage_spans) == pieces
        assert sorted(batch.rows) == sorted([*relevant, *(row for own in negatives for row in own)])
        assert [batch.rows[place] for place in batch.labels] == relevant
        read = [read_back(batch.inputs(piece)) for piece in range(pieces)]
        assert [unit for units, _ in read for unit in units] == [example.unit for example in chosen]
        assert [row for _, rows in read for row in rows] == batch.rows
        for place, example in enumerate(chosen):
            own = batch.labels[place]
            expected = [row in example.relevant and column != own for column, row in enumerate(batch.rows)]
            assert batch.excluded[place].tolist() == expected
            found |= any(expected)
        assert batch.counts(batch.spans, world) == [len(chosen) // world] * world
    assert found, "some question's negative is relevant to another"


def read_back(inputs):
    """The units and rows of a piece's inputs."""
    ids = torch.cat([group["input_ids"].flatten() for group in inputs["passages"]])
    return inputs["questions"]["input_ids"].flatten().tolist(), ids[inputs["order"]].tolist()


def test_a_piece_holds_its_questions_passages():
    batch = Batches(task(), (7, 0), chunk=1)[0]
    chosen, relevant, negatives = Batches(task(), (7, 0)).draw(0)
    for place in range(len(chosen)):
        own = [batch.rows[row] for row in batch.passage_spans[place]]
        assert own == [relevant[place], *negatives[place]]


def test_a_question_without_negatives_has_none():
    examples = [Example(unit, f"e{unit}", (unit,), {"bm25": [], "article": []}) for unit in range(4)]
    assert Batches(task(examples), (0, 0)).draw(0)[2] == [[]] * 4
    assert len(Batches(task([Example(unit, f"e{unit}", (unit,), {}) for unit in range(4)]), (0, 0))[0].rows) == 4


def test_too_few_entities_are_an_error():
    with pytest.raises(InputError, match=r"training.batch_size: 4 questions .* only 3 entities"):
        Batches(task(EXAMPLES[:6]), (0, 0))


def test_an_indivisible_batch_is_an_error():
    with pytest.raises(InputError, match=r"training.batch_size: 4 questions cannot be split evenly into 3 processes"):
        Batches(task(), (0, 0), world=3)


def mixture(mixing, accumulation=1, weight=1, seed=3):
    few = EXAMPLES[:4] + [Example(unit, f"x{unit}", (unit,), {}) for unit in range(4)]
    tasks = [task(name="a"), task(few, "b"), task(name="c", batch_size=6, weight=weight)]
    return Mixture(tasks, mixing, accumulation, seed)


def test_round_robin_takes_tasks_in_turn_and_advances_in_each():
    places = [mixture("round-robin").place(step) for step in range(7)]
    assert places == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (0, 2)]


def test_balanced_takes_tasks_by_size_and_reshuffles_every_epoch():
    mixed = mixture("balanced", weight=2)
    assert mixed.epoch == [3, 2, 4], "12 / 4, 8 / 4 and 2 x 12 / 6 batches"
    places = [mixed.place(step) for step in range(18)]
    for epoch in (places[:9], places[9:]):
        assert [sum(task == number for task, _ in epoch) for number in range(3)] == [3, 2, 4]
    assert [task for task, _ in places[:9]] != [task for task, _ in places[9:]]
    for number, steps in enumerate((6, 4, 8)):
        assert [before for task, before in places if task == number] == list(range(steps)), "each batch once"
    assert places == [mixture("balanced", weight=2).place(step) for step in range(18)]
    assert places != [mixture("balanced", weight=2, seed=4).place(step) for step in range(18)]


def test_a_step_accumulates_batches_of_one_task():
    mixed = mixture("round-robin", accumulation=2)
    batches = mixed.step(4)  # the second step of the second task
    assert [batch.task.name for batch in batches] == ["b", "b"]
    assert [batch.units for batch in batches] == [mixed.batches[1][number].units for number in (2, 3)]


def test_relevant_passages_that_are_not_drawn_are_excluded():
    examples = [Example(unit, f"e{unit}", (10 * unit,), {}, (10 * ((unit + 1) % 4),)) for unit in range(4)]
    batch = Batches(task(examples), (7, 0))[0]
    expected = [[row == 10 * ((unit + 1) % 4) for row in batch.rows] for unit in batch.units]
    assert batch.excluded.tolist() == expected
    assert set(batch.rows) == {0, 10, 20, 30}
