"""Finding answers in the 100 passages of a question: ours against one regular expression per answer and passage.

The reference follows the definition of meerqat's `find_relevant`: it normalises each passage and answer when it tests
them, and tries the answers in turn until one is found. Passages have 100 Zipf-distributed words on average; a question
has 13 answers on average (log-normal, as few questions have very many aliases), some of them common.
"""

import re
import string
from itertools import product

import numpy as np
from bench import contest, options, ratio

from vlret.data.answers import PreprocessedPassages, find_relevant

TYPES, WORDS, SPREAD, DEPTH = 500_000, 100, 0.4, 100
COMMON = ["the", "of", "and", "in", "a", "to", "was", "is", "for", "an"]
SYLLABLES = ["".join(parts) for parts in product("bdfgklmnprstvz", "aeiou", ("", "n", "r"))]


def vocabulary() -> np.ndarray:
    """Words by rank; one in forty has a non-ASCII letter."""
    words = [first + second + third for first, second, third in product(("", *SYLLABLES[:11]), SYLLABLES, SYLLABLES)]
    words = [*COMMON, *dict.fromkeys(words)][:TYPES]
    return np.array([f"{word}é" if rank % 40 == 39 else word for rank, word in enumerate(words)], dtype=object)


def ranks(random: np.random.Generator, count: int, types: int, first: int = 0) -> np.ndarray:
    """`count` word ranks from `first`, with probabilities inversely proportional to their position."""
    drawn = np.exp(random.uniform(np.log(first + 1), np.log(types), count))
    return np.minimum(drawn.astype(int), types - 1)


def passages(random: np.random.Generator, words: np.ndarray, count: int) -> list[str]:
    """Sentences of 15 words with commas and capitals; four in ten passages have a dash."""
    made = []
    for size in np.maximum(random.lognormal(np.log(WORDS) - SPREAD**2 / 2, SPREAD, count), 5).astype(int):
        own = words[ranks(random, size, len(words))]
        own[::15] = [f"{word.capitalize()}," for word in own[::15]]
        own[14::15] = [f"{word}." for word in own[14::15]]
        if random.random() < 0.4:
            own[size // 2] += " –"
        made.append(" ".join(own))
    return made


def answers(random: np.random.Generator, words: np.ndarray) -> list[str]:
    """Variants of a name, of one to three words, the original first."""
    count = int(np.clip(random.lognormal(np.log(8), 1), 1, 200))
    name = words[ranks(random, 3, len(words), 300)]
    return [" ".join(random.permutation(name)[: random.integers(1, 4)]).title() for _ in range(count)]


def reference(retrieved: list[int], answers: list[str], texts: list[str]) -> tuple[list[int], list[int]]:
    """`find_relevant` by its definition."""
    with_original, relevant = [], []
    for row in retrieved:
        passage = normalised(texts[row])
        for place, answer in enumerate(answers):
            wanted = normalised(answer)
            if wanted and re.search(rf"\b{wanted}\b", passage) is not None:
                relevant.append(row)
                if place == 0:
                    with_original.append(row)
                break
    return with_original, relevant


def normalised(text: str, punctuation: frozenset[str] = frozenset(string.punctuation)) -> str:
    """meerqat's `answer_preprocess` by its definition."""
    kept = "".join(character for character in text.lower() if character not in punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def main():
    given = options(__doc__, questions=(200, 5), rounds=(3, 1))
    random, words = np.random.default_rng(0), vocabulary()
    texts = passages(random, words, 5000)
    asked = [answers(random, words) for _ in range(given.questions)]
    retrieved = [random.choice(len(texts), DEPTH, replace=False).tolist() for _ in asked]
    known = PreprocessedPassages.of(texts)
    finders = {
        "reference": lambda rows, own: reference(rows, own, texts),
        "ours": lambda rows, own: find_relevant(rows, own[0], own[1:], known),
        "ours, normalising": lambda rows, own: find_relevant(
            range(DEPTH), own[0], own[1:], PreprocessedPassages.of(texts[row] for row in rows)
        ),
    }
    found: dict[str, list] = {}

    def run(name: str) -> None:
        found[name] = [finders[name](rows, own) for rows, own in zip(retrieved, asked, strict=True)]

    seconds = contest({name: lambda name=name: run(name) for name in finders}, given)
    assert found["ours"] == found["reference"]
    assert [len(own[1]) for own in found["ours, normalising"]] == [len(own[1]) for own in found["ours"]]
    aliases, relevant = np.mean([len(own) for own in asked]), np.mean([len(own[1]) for own in found["ours"]])
    print(f"  {given.questions} questions with {DEPTH} passages and {aliases:.1f} answers, {relevant:.1f} relevant")
    for name in finders:
        print(f"  {name}: {1000 * seconds[name] / given.questions:.2f} ms per question")
    peer = "one regular expression per answer and passage"
    ratio("answers found in normalised passages", seconds["reference"] / seconds["ours"], peer)
    ratio("answers found, normalising included", seconds["reference"] / seconds["ours, normalising"], peer)


if __name__ == "__main__":
    main()
