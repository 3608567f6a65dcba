import pytest
import torch

from vlret.encoders.inputs import Side
from vlret.files import InputError
from vlret.training.batches import Batches, Example

SETTINGS = {
    "steps": 40,
    "accumulation": 1,
    "batch_size": 4,
    "negatives_per_question": 2,
    "negatives": {"bm25": 0.5, "article": 0.5},
}


class Words:
    """A tokenizer of one id a text, so that a batch can be read back."""

    def __call__(self, texts, **_):
        return {"input_ids": torch.tensor([[int(t)] for t in texts]), "attention_mask": torch.ones(len(texts), 1)}


def side(count):
    return Side([str(unit) for unit in range(count)], None, None, Words(), 8)


def mined(unit):
    """Negatives of a question, one of them relevant to the question after the next."""
    return {"bm25": [900, 901, 10 * ((unit + 2) % 12)], "article": [unit + 500]}


EXAMPLES = [Example(unit, f"e{unit // 2}", (10 * unit, 10 * unit + 1), mined(unit)) for unit in range(12)]


@pytest.fixture
def batches():
    return Batches(EXAMPLES, side(12), side(1000), SETTINGS, seed=7)


def test_a_batch_is_a_function_of_seed_and_step(batches):
    again = Batches(EXAMPLES, side(12), side(1000), SETTINGS, seed=7)
    other = Batches(EXAMPLES, side(12), side(1000), SETTINGS, seed=8)
    assert [batches.draw(step) for step in (5, 0)] == [again.draw(step) for step in (5, 0)]
    assert [batches.draw(step) for step in range(9)] != [other.draw(step) for step in range(9)]
    assert batches.draw(0) != batches.draw(1)


def test_entities_are_distinct_and_every_question_comes_up(batches):
    seen = set()
    for step in range(len(batches)):
        chosen, relevant, _ = batches.draw(step)
        assert len({example.entity for example in chosen}) == SETTINGS["batch_size"]
        assert all(row in example.relevant for row, example in zip(relevant, chosen, strict=True))
        seen |= {(example.unit, row) for row, example in zip(relevant, chosen, strict=True)}
    assert len({unit for unit, _ in seen}) == 12
    assert len(seen) > 12, "the relevant passage is drawn, not always the first"


def test_hard_negatives_come_from_the_miners_and_never_twice(batches):
    sources = set()
    for step in range(len(batches)):
        chosen, _, negatives = batches.draw(step)
        assert len(negatives) == 2 * SETTINGS["batch_size"]
        for place, example in enumerate(chosen):
            own = negatives[2 * place : 2 * place + 2]
            assert len(set(own)) == 2
            assert set(own) <= {row for rows in example.negatives.values() for row in rows}
            sources |= {"article" if row in example.negatives["article"] else "bm25" for row in own}
    assert sources == {"bm25", "article"}


def test_labels_and_exclusions_fit_the_rows(batches):
    found = False
    for step in range(len(batches)):
        chosen, relevant, negatives = batches.draw(step)
        batch, rows = batches[step], [*relevant, *negatives]
        ids = torch.cat([group["input_ids"].flatten() for group in batch["passages"]])
        assert ids[batch["order"]].tolist() == rows
        assert batch["questions"]["input_ids"].flatten().tolist() == [example.unit for example in chosen]
        for place, example in enumerate(chosen):
            assert batch["labels"][place] == place
            expected = [row in example.relevant and column != place for column, row in enumerate(rows)]
            assert batch["excluded"][place].tolist() == expected
            found |= any(expected)
    assert found, "another question's negative is relevant to a question somewhere"


def test_a_question_without_negatives_has_none():
    bare = [Example(unit, f"e{unit}", (unit,), {"bm25": [], "article": []}) for unit in range(4)]
    assert Batches(bare, side(4), side(4), SETTINGS, seed=0).draw(0)[2] == []


def test_too_few_entities_are_an_error():
    with pytest.raises(InputError, match=r"training.batch_size: 4 questions .* only 3 entities"):
        Batches(EXAMPLES[:6], side(12), side(1000), SETTINGS, seed=0)
