import pytest
import torch
from tiny import Read

from vlret.encoders.inputs import Side
from vlret.files import InputError
from vlret.settings import Task as TaskSettings
from vlret.training.batches import Batches, Example, Mixture, Task

SETTINGS = {
    "kind": "viquae",
    "batch_size": 4,
    "negatives_per_question": 2,
    "negatives": {"bm25": 0.5, "article": 0.5},
    "weight": 1.0,
}
STEPS = 40


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
