"""The inverted index against a count by hand and by loop."""

import json
import subprocess
import sys

import numpy as np
import pytest
from datasets import Dataset

from vlret.files import InputError
from vlret.lexical.index import Index, analyse, build

PASSAGES = {
    "article": [0, 0, 1],
    "title": ["Peru", "Peru", "Łódź"],
    "text": ["The sea, the SEA!", "", "ﬁne sea_side 42"],
}


@pytest.fixture
def passages(tmp_path):
    Dataset.from_dict(PASSAGES).save_to_disk(str(tmp_path / "passages"))
    return tmp_path / "passages"


def test_analysis_splits_unicode_words_in_lower_case():
    assert analyse("L'Étoile—ﬁn du\u00a0XXᵉ s.! 東京 U.S.") == [
        "l", "étoile", "fin", "du", "xxe", "s", "東京", "u", "s",
    ]  # fmt: skip
    assert analyse("The sea", {"the"}) == ["sea"]
    assert analyse("  … ") == []


def test_the_index_counts_as_one_does_by_hand(passages, tmp_path):
    build(passages, {"stop_words": "none"}, tmp_path / "index")
    index = Index(tmp_path / "index")
    assert list(index.terms) == ["peru", "the", "sea", "łódź", "fine", "sea_side", "42"]
    assert index.lengths.tolist() == [5, 1, 4]
    assert index.average_length == 10 / 3
    held = {term: tuple(map(np.ndarray.tolist, index.postings(number))) for term, number in index.terms.items()}
    assert held == {
        "peru": ([0, 1], [1, 1]),
        "the": ([0], [2]),
        "sea": ([0], [2]),
        "łódź": ([2], [1]),
        "fine": ([2], [1]),
        "sea_side": ([2], [1]),
        "42": ([2], [1]),
    }
    assert index.known("Sea, sea of PERU or Bolivia") == [(0, 1), (2, 2)]


def test_stop_words_leave_passages_and_questions(passages, tmp_path):
    build(passages, {"stop_words": ["the", "peru"]}, tmp_path / "index")
    index = Index(tmp_path / "index")
    assert index.lengths.tolist() == [2, 0, 4]
    assert index.known("the Peru sea") == [(index.terms["sea"], 1)]


def test_frequencies_stop_at_255_and_lengths_do_not(tmp_path):
    Dataset.from_dict({"title": ["a"], "text": ["b " * 300]}).save_to_disk(str(tmp_path / "passages"))
    build(tmp_path / "passages", {"stop_words": "none"}, tmp_path / "index")
    index = Index(tmp_path / "index")
    assert index.postings(1)[1].tolist() == [255]
    assert index.lengths.tolist() == [301]


def test_the_same_passages_give_the_same_bytes(passages, tmp_path):
    for name in ("one", "two"):
        build(passages, {"stop_words": "none"}, tmp_path / name)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    assert json.loads(one["index.json"]) == {
        "passages": 3,
        "terms": 7,
        "tokens": 10,
        "analysis": {"stop_words": []},
    }


def test_nothing_to_index_is_an_error_and_leaves_nothing(tmp_path):
    Dataset.from_dict({"title": ["", "!"], "text": ["…", ""]}).save_to_disk(str(tmp_path / "passages"))
    with pytest.raises(InputError, match="passages: no passage holds a word"):
        build(tmp_path / "passages", {"stop_words": "none"}, tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_the_lexical_room_imports_no_torch():
    code = "import sys, vlret.lexical.index, vlret.lexical.search, vlret.lexical.tune; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
