"""Files in the published layouts at any size, from a seed: ViQuAE, its knowledge base and images, KILT, TriviaQA.

A record depends on the seed and its row alone, so that a longer file begins with a shorter one's records, and files are
written as they are drawn, in bounded memory. Articles make about eight passages of 100 tokens; words are distributed
as Zipf has it, and names keep coming, so that a vocabulary grows with the articles. Row `n` is the same thing in
every source: `entity(seed, n)`; a question asks for what its article says.
"""

import gzip
import hashlib
import io
import json
import math
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import cache
from itertools import product
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image

TYPES = ("non_humans", "humans_with_faces", "humans_without_faces")
SPLITS = ("train", "validation", "test")
SENTENCES = 25  # of an article, on average
COMMON = "the of and in to a was is for as by with on that from at his it an were which are this also be he had its"
ENDINGS = (". ", ". ", ". ", ". ", ". ", ". ", ".", "! ", '." ', "; it was so in the U.S. and at St. Dunn's. ")
INSERTS = (" (%d), ", ", ", ", ", " – ", " of %d to ", "'s ", "-", ' "', "/", ", é ", " 5km ", " etc., ")
KINDS = ("river", "song", "film", "town", "bridge", "ship")
WORK = ("painter", "singer", "judge", "pilot", "poet", "goalkeeper")
IMAGES = 64  # that differ


class Entity(NamedTuple):
    """What one row is about."""

    row: int
    title: str
    kind: str
    person: str
    place: str
    year: int
    human: bool

    @property
    def wikidata_id(self) -> str:
        """Of the form `Q123`."""
        return f"Q{100 + 13 * self.row}"

    @property
    def wikipedia_id(self) -> str:
        """A number as text, in all sources."""
        return str(1000 + 7 * self.row)

    @property
    def image(self) -> str:
        """A file name."""
        return f"512px-{self.title.replace(' ', '_')}.jpg"

    def facts(self) -> list[str]:
        """Sentences of its article that answer questions."""
        if self.human:
            return [f"{self.title} is a {self.kind} from {self.place}.", f"In {self.year}, {self.person} married them."]
        return [f"{self.title} is a {self.kind} in {self.place}.", f"{self.person} found it in {self.year}."]

    def ask(self, which: int) -> tuple[str, str, str]:
        """Question by its image, question by its name, answer."""
        verb, answer = (("Where is {} from?", self.place), ("Who has to do with {}?", self.person))[which % 2]
        return verb.format(f"this {self.kind}"), verb.format(self.title), answer


@cache
def _syllables() -> tuple[str, ...]:
    return tuple(a + b + c for a, b, c in product("bdfgklmnprstvz", "aeiou", ("", "n", "r", "s")))


def name(draw: Random) -> str:
    """One of 90 million names of two words."""
    return " ".join("".join(draw.choices(_syllables(), k=size)).capitalize() for size in (2, 2))


def numbered(number: int) -> str:
    """A word that only this number has."""
    syllables, word = _syllables(), ""
    while number or len(word) < 4:
        number, digit = divmod(number, len(syllables))
        word += syllables[digit]
    return word.capitalize()


def entity(seed: int, row: int, human: bool = False) -> Entity:
    """What row `row` is about; its title is no other row's."""
    draw = Random((seed << 40) + 2 * row + human)
    kind = draw.choice(WORK if human else KINDS)
    title = f"{name(draw).split()[0]} {numbered(row)}"
    return Entity(
        row, title, kind, name(draw), f"{numbered(draw.randrange(5000))}shire", draw.randrange(1500, 2019), human
    )


@cache
def _sentences(seed: int) -> list[tuple[str, str]]:
    """Sentences, about 21 words each, cut in two where a name may stand."""
    random = np.random.default_rng(seed)
    words = np.array([*COMMON.split(), *map("".join, product(_syllables(), repeat=2))], dtype=object)
    made = []
    for size in np.maximum(random.lognormal(np.log(19), 0.5, 6000), 2).astype(int):
        own = words[(np.exp(random.random(size) * np.log(len(words))) - 1).astype(int)].tolist()
        own[0] = own[0].capitalize()
        place = int(random.integers(1, size)) if random.random() < 0.5 else size
        inserted = INSERTS[random.integers(len(INSERTS))].replace("%d", str(random.integers(1200, 2020)))
        ending = ENDINGS[random.integers(len(ENDINGS))]
        first, rest = " ".join(own[:place]), inserted + " ".join(own[place:]) if place < size else ""
        made.append((first, rest + ending))
    return made


def paragraphs(seed: int, about: Entity) -> tuple[list[str], list[tuple[int, int, str]]]:
    """An article as KILT has it, the title first, and its links as `(paragraph, start, text)`."""
    draw = Random((seed << 40) + 2 * about.row + about.human + (1 << 39))
    left = min(int(draw.lognormvariate(math.log(SENTENCES) - 0.5, 1)) + 1, 600)
    texts, links, facts = [f"{about.title}\n"], [], about.facts()
    while left > 0:
        pieces, at = [f"{facts.pop(0)} "] if facts else [], 0
        at = sum(map(len, pieces))
        for first, rest in draw.choices(_sentences(seed), k=min(left, draw.randrange(1, 8))):
            if len(rest) > 20:
                link = name(draw)
                links.append((len(texts), at + len(first) + 1, link))
                first = f"{first} {link}"
            pieces += (first, rest)
            at += len(first) + len(rest)
            left -= 1
        texts.append("".join(pieces).rstrip(" ") + "\n")
        turn = draw.random()
        if turn < 0.3 and left > 0:
            texts.append(f"Section::::{name(draw)}.\n")
        elif turn < 0.4:
            texts += [f"BULLET::::- {name(draw)} ({draw.randrange(1900, 2019)})\n" for _ in range(3)]
    return texts + [f"{fact}\n" for fact in facts], links


def article(seed: int, about: Entity, form: str = "viquae") -> dict:
    """One article: `viquae` as the hub has it (lists in records), `kilt` as its file has it, with `history`."""
    texts, links = paragraphs(seed, about)
    anchors = [
        {
            "paragraph_id": paragraph,
            "start": start,
            "end": start + len(text),
            "text": text,
            "href": text.replace(" ", "%20"),
            "wikipedia_title": text,
            "wikipedia_id": str(start * 97 + paragraph),
        }
        for paragraph, start, text in links
    ]
    identity = {"wikipedia_id": about.wikipedia_id, "wikipedia_title": about.title}
    entry = {"wikidata_id": about.wikidata_id, "wikidata_label": about.title, "wikipedia_title": about.title}
    entry |= {"description": f"{about.kind} in {about.place}", "enwikiquote_title": ""}
    categories = f"{about.year} births,{about.place},Articles with hCards,{about.kind.capitalize()}s of {about.place}"
    if form == "kilt":
        history = {"pageid": about.wikipedia_id, "parentid": "904", "revid": "905", "pre_dump": True}
        history |= {
            "timestamp": "2019-07-05T15:24:00Z",
            "url": f"https://en.wikipedia.org/w/index.php?oldid={about.row}",
        }
        entry["aliases"] = {"alias": [about.title.upper()]}
        rest = {"categories": categories, "history": history, "wikidata_info": entry}
        return {"_id": about.wikipedia_id, **identity, "text": texts, "anchors": anchors, **rest}
    listed = {field: [anchor[field] for anchor in anchors] for field in anchors[0]} if anchors else {}
    entry["aliases"] = {"alias": [about.title.upper()]}
    url = f"https://upload.wikimedia.org/wikipedia/commons/thumb/{about.image}"
    record = {"kilt_id": about.wikipedia_id, **identity, "url": url, "image": about.image, "categories": categories}
    return {**record, "text": {"paragraph": texts}, "anchors": listed, "wikidata_info": entry}


def question(about: Entity, which: int, salt: str = "") -> dict:
    """One question of ViQuAE about an entity."""
    shown, named, answer = about.ask(which)
    provenance = {"bleu_score": [1.0], "start_character": [0], "end_character": [40], "start_paragraph_id": [1]}
    provenance |= {"end_paragraph_id": [1], "section": ["Section::::Abstract."], "meta": []}
    provenance |= {"title": [about.title], "wikipedia_id": [about.wikipedia_id]}
    context = {"left_context": "", "mention": "", "right_context": "", "obj_surface": [], "sub_surface": []}
    return {
        "id": identifier(f"{salt}{about.row}-{which}"),
        "input": shown,
        "original_question": named,
        "image": about.image,
        "url": f"http://upload.wikimedia.org/wikipedia/commons/{about.image}",
        "wikidata_id": about.wikidata_id,
        "kilt_id": f"qw_{1000 + which}--{about.row}/{about.wikipedia_id}.txt#0_0",
        "meta": {**context, "partial_evidence": [], "subj_aliases": [], "template_questions": []},
        "output": {"answer": [answer, answer.upper()], "original_answer": answer, "provenance": [provenance]},
    }


def triviaqa(about: Entity, which: int) -> tuple[dict, dict]:
    """A question as KILT tasks have it (without its text), and as `trivia_qa` `unfiltered.nocontext` has it."""
    _, named, answer = about.ask(which)
    found = {"bleu_score": 1.0, "title": about.title, "wikipedia_id": about.wikipedia_id, "section": "", "meta": {}}
    found |= {"start_character": 0, "end_character": 40, "start_paragraph_id": 1, "end_paragraph_id": 1}
    output = [{"answer": text, "meta": {"score": 0}, "provenance": []} for text in (answer, answer.upper())]
    output.append({"answer": "", "meta": {"score": 0}, "provenance": [found]})
    own = f"tc_{about.row}--{which}/{about.wikipedia_id}.txt"
    meta = question(about, which)["meta"]
    aliases = {"aliases": [answer, answer.upper()], "normalized_aliases": [answer.lower()], "value": answer}
    aliases |= {"matched_wiki_entity_name": "", "normalized_matched_wiki_entity_name": "", "type": "FreeForm"}
    asked = {"question": named, "question_id": own, "question_source": "http://www.example.org/", "entity_pages": {}}
    asked |= {"search_results": {}, "answer": {**aliases, "normalized_value": answer.lower()}}
    return {"id": own, "input": "", "meta": meta, "output": output}, asked


def identifier(text: str) -> str:
    """32 hexadecimal digits."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def write(path: Path, records: Iterable[dict]) -> Path:
    """JSON lines, compressed where the name ends in `.gz`; the same records give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as raw:
        stream = gzip.GzipFile("", "wb", 1, raw, mtime=0) if path.suffix == ".gz" else raw
        with io.BufferedWriter(stream, 1 << 20) as lines:
            for record in records:
                lines.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
    return path


def entities(seed: int, counts: Iterable[int]) -> Iterator[Iterator[Entity]]:
    """The entities of a knowledge base of `counts` non-humans, humans with and without faces; rows go on."""
    first = 0
    for kind, count in zip(TYPES, counts, strict=True):
        yield (entity(seed, row, kind != TYPES[0]) for row in range(first, first + count))
        first += count


def wikipedia(folder: Path, counts: tuple[int, int, int], seed: int = 0) -> list[Path]:
    """`PaulLerner/viquae_wikipedia`: three files, in the order in which they are put together."""
    files = [folder / f"{kind}.jsonl.gz" for kind in TYPES]
    for path, chosen in zip(files, entities(seed, counts), strict=True):
        write(path, (article(seed, about) for about in chosen))
    return files


def kilt_wikipedia(path: Path, count: int, seed: int = 0, first: int = 0) -> Path:
    """`kilt_knowledgesource.json`, JSON lines: non-humans of rows `first` to `first + count`."""
    return write(path, (article(seed, entity(seed, row), "kilt") for row in range(first, first + count)))


def viquae(folder: Path, counts: tuple[int, int, int], known: tuple[int, int, int], seed: int = 0) -> list[Path]:
    """`PaulLerner/viquae_dataset`: `counts` questions by split about entities of a knowledge base of `known` ones.

    No entity is in two splits, and each is asked about twice.
    """
    files, at = [], 0
    for split, count in zip(SPLITS, counts, strict=True):
        rows = [spread(at + number // 2, sum(known)) for number in range(count)]
        at += -(-count // 2)
        chosen = [entity(seed, row, row >= known[0]) for row in rows]
        records = (question(about, number) for number, about in enumerate(chosen))
        files.append(write(folder / f"{split}.jsonl", records))
    return files


def spread(number: int, count: int) -> int:
    """A row for each number below `count`, each once, all over the rows."""
    step = next(step for step in range(int(count * 0.618) | 1, 2 * count + 3) if math.gcd(step, count) == 1)
    return number * step % count


def triviaqa_for_viquae(folder: Path, counts: dict[str, int], known: tuple[int, int, int], seed: int = 0) -> list[Path]:
    """`PaulLerner/triviaqa_for_viquae`: `{name: questions}`, a file each; like ViQuAE's, without images."""
    kept, files, at = ("id", "input", "meta", "output"), [], 0
    for name_, count in counts.items():
        rows = [spread((at + number) % sum(known), sum(known)) for number in range(count)]
        at += count
        records = (question(entity(seed, row, row >= known[0]), number, name_) for number, row in enumerate(rows))
        named = ({**record, "input": record["original_question"]} for record in records)
        files.append(write(folder / f"{name_}.jsonl", ({field: r[field] for field in kept} for r in named)))
    return files


def kilt_tasks(folder: Path, counts: dict[str, int], known: int, seed: int = 0) -> tuple[list[Path], list[Path]]:
    """KILT's TriviaQA without its questions (no output for its test), and `unfiltered.nocontext` with them."""
    tasks, asked, at = [], [], 0
    for split, count in counts.items():
        pairs = [triviaqa(entity(seed, spread((at + n) % known, known)), at + n) for n in range(count)]
        at += count
        bare = [{key: value for key, value in task.items() if split != "test" or key != "output"} for task, _ in pairs]
        tasks.append(write(folder / f"triviaqa-{split}-kilt.jsonl", bare))
        asked.append(write(folder / f"unfiltered-{split}.jsonl", (question for _, question in pairs)))
    return tasks, asked


@cache
def pictures(size: int) -> list[bytes]:
    """Small JPEG files that differ."""
    made = []
    for number in range(IMAGES):
        pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).resize((size, size)).save(stream, "JPEG")
        made.append(stream.getvalue())
    return made


def picture(image: str, size: int = 32) -> bytes:
    """The file that goes by a name."""
    return pictures(size)[int(identifier(image), 16) % IMAGES]


def image_folder(folder: Path, names: Iterable[str], size: int = 32) -> Path:
    """Images as files of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in names:
        (folder / image).write_bytes(picture(image, size))
    return folder


def image_archive(
    folder: Path, names: Iterable[str], size: int = 32, parts: int = 1, inside: str = "images"
) -> list[Path]:
    """Images as `images.tar.gz`, or its bytes in parts (`parta00`, `parta01`, …), as `viquae_all_images` has them."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / f"{inside}.tar.gz"
    with ExitStack() as opened:
        raw = opened.enter_context(open(whole, "wb"))
        zipped = opened.enter_context(gzip.GzipFile("", "wb", 1, raw, mtime=0))
        archive = opened.enter_context(tarfile.open(fileobj=zipped, mode="w|"))
        for image in names:
            member = tarfile.TarInfo(f"{inside}/{image}")
            member.size = len(picture(image, size))
            archive.addfile(member, io.BytesIO(picture(image, size)))
    if parts == 1:
        return [whole]
    share, files = -(-whole.stat().st_size // parts), []
    with open(whole, "rb") as stream:
        for number in range(parts):
            files.append(folder / f"{inside}.tar.gz.part{chr(97 + number // 26)}{chr(97 + number % 26)}")
            files[-1].write_bytes(stream.read(share))
    whole.unlink()
    return files
