"""The inverted index against manual counts and loops."""

import json
import subprocess
import sys

import numpy as np
import pytest
from datasets import Dataset

from vlret.files import InputError
from vlret.lexical.index import Index, analyse, build, invert, lucene_lengths, stemmer, write_index
from vlret.settings import Analysis

PLAIN = Analysis()
PASSAGES = {
    "article": [0, 0, 1],
    "title": ["Peru", "Peru", "Łódź"],
    "text": ["The sea, the SEA!", "", "fine sea_side 42"],
}


@pytest.fixture
def passages(tmp_path):
    Dataset.from_dict(PASSAGES).save_to_disk(str(tmp_path / "passages"))
    return tmp_path / "passages"


def test_terms_are_words_without_stop_words():
    assert analyse("L'Étoile—fin du\u00a0XXᵉ s.! 東京 U.S.") == ["l'étoile", "fin", "du", "xxᵉ", "s", "東", "京", "u.s"]
    assert analyse("The sea", {"the"}) == ["sea"]
    assert analyse("  … ") == []


def test_the_index_equals_a_manual_count(passages, tmp_path):
    build(passages, PLAIN, tmp_path / "index")
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


def test_stop_words_are_removed_from_passages_and_questions(passages, tmp_path):
    build(passages, Analysis(stop_words=["the", "peru"]), tmp_path / "index")
    index = Index(tmp_path / "index")
    assert index.lengths.tolist() == [2, 0, 4]
    assert index.known("the Peru sea") == [(index.terms["sea"], 1)]


def test_passages_and_questions_are_stemmed(passages, tmp_path):
    build(passages, Analysis(stemmer="english", stop_words=["seas"]), tmp_path / "index")
    index = Index(tmp_path / "index")
    assert dict(index.known("Peru seaing seas")) == {index.terms["sea"]: 1, index.terms["peru"]: 1}
    assert analyse("cities running", stem=stemmer("porter")) == ["citi", "run"]


def test_frequencies_stop_at_255_and_lengths_do_not(tmp_path):
    Dataset.from_dict({"title": ["a"], "text": ["b " * 300]}).save_to_disk(str(tmp_path / "passages"))
    build(tmp_path / "passages", PLAIN, tmp_path / "index")
    index = Index(tmp_path / "index")
    assert index.postings(1)[1].tolist() == [255]
    assert index.lengths.tolist() == [301]


def test_the_same_passages_give_the_same_bytes(passages, tmp_path):
    for name in ("one", "two"):
        build(passages, PLAIN, tmp_path / name)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    assert json.loads(one["index.json"]) == {
        "passages": 3,
        "terms": 7,
        "tokens": 10,
        "analysis": {"stop_words": [], "stemmer": "none", "lengths": "exact"},
    }


def test_english_stop_words_equal_lucenes(passages, tmp_path):
    build(passages, Analysis(stop_words="english"), tmp_path / "index")
    index = Index(tmp_path / "index")
    assert len(index.stop_words) == 33
    assert "the" not in index.terms
    assert index.lengths.tolist() == [3, 1, 4]


def test_inversion_sorts_all_tokens_for_any_range_size(tmp_path):
    generator = np.random.default_rng(0)
    lengths = generator.integers(0, 40, size=500).astype(np.int32)
    tokens = (generator.random(lengths.sum()) ** 3 * 90).astype(np.int32)  # common, rare and absent terms
    tokens[lengths[:250].sum() :][: lengths[250]] = 91
    keys, counts = np.unique(tokens * 500 + np.repeat(np.arange(500), lengths), return_counts=True)
    expected = {
        "starts": np.searchsorted(keys, np.arange(94) * 500),
        "passages": keys % 500,
        "frequencies": counts,
    }
    for at_once in (1, 7, 200, 10**6):
        invert(tokens, lengths, 93, tmp_path, at_once)
        for name, array in expected.items():
            found = np.load(tmp_path / f"{name}.npy")
            np.testing.assert_array_equal(found, array)
            assert found.dtype == {"starts": np.int64, "passages": np.int32, "frequencies": np.uint8}[name]


def test_lucene_stores_lengths_in_a_byte(tmp_path):
    lengths = np.arange(5000)
    kept = lucene_lengths(lengths)
    np.testing.assert_array_equal(kept, [from_byte(to_byte(length)) for length in lengths.tolist()])
    assert [to_byte(length) for length in (0, 23, 40, 41, 42, 2**31 - 1)] == [0, 23, 40, 40, 41, 255]
    assert kept[[40, 41, 100, 119, 120, 4999]].tolist() == [40, 40, 96, 112, 120, 4632]
    write_index(
        tmp_path,
        ["a"],
        np.zeros(260, np.int32),
        np.array([43, 217]),
        Analysis(stop_words=[], lengths="lucene"),
    )
    index = Index(tmp_path)
    assert index.lengths.tolist() == [42, 216]
    assert index.average_length == 130  # of exact lengths, as in Lucene
    assert index.distinct[index.codes].tolist() == [42 / 130, 216 / 130]


def to_byte(length):
    """Lucene's SmallFloat.intToByte4: the index of a length among those it can represent."""
    if length < 24:
        return length
    bits = (length - 24).bit_length()
    if bits < 4:
        return length
    return 24 + (((length - 24) >> (bits - 4) & 7) | (bits - 3) << 3)


def from_byte(byte):
    """Its byte4ToInt."""
    if byte < 24:
        return byte
    low, shift = byte - 24 & 7, (byte - 24 >> 3) - 1
    return 24 + (low if shift < 0 else (low | 8) << shift)


def test_nothing_to_index_is_an_error_and_leaves_nothing(tmp_path):
    Dataset.from_dict({"title": ["", "!"], "text": ["…", ""]}).save_to_disk(str(tmp_path / "passages"))
    with pytest.raises(InputError, match="passages: no passage contains a word"):
        build(tmp_path / "passages", PLAIN, tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_an_unknown_stemmer_is_an_error(passages, tmp_path):
    with pytest.raises(InputError, match="'klingon' is neither none nor one of Snowball's"):
        build(passages, Analysis(stemmer="klingon"), tmp_path / "index")


def test_the_lexical_stage_imports_no_torch():
    code = "import sys, vlret.lexical.index, vlret.lexical.search, vlret.lexical.tune; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
