"""`vlret data check`: all mistakes in the user's own files at once, before a run stops at the first.

Files are read by the same functions as in the jobs, so that files without mistakes here stop no job.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, load_from_disk

from vlret.asked import Asked
from vlret.data.answers import has_answer
from vlret.data.articles import ARTICLE_PROBLEMS, KEPT, Articles, Places, no_article, read_articles
from vlret.data.declared import made_for_us
from vlret.data.entities import find_images
from vlret.data.images import ImageError, check_image
from vlret.data.own import absence
from vlret.data.published_passages import no_passage, read_passages
from vlret.data.questions import QUESTION_PROBLEMS, Links, no_question, read_questions
from vlret.data.records import ANY, FormatError, Problems, Record, RecordError, Unique, files_of
from vlret.data.sources import files_by_role, folder_of
from vlret.experiment import knowledge_base
from vlret.files import InputError
from vlret.layout import Layout
from vlret.runs import read_run

MOST_LINES = 100
OF_A_FILE = "with a file"  # the kind of a mistake that concerns a whole file
UNREADABLE = "unreadable image"
COLUMNS = ["id", "title", "image", "wikidata_id"]  # of articles, kept in memory


def check(asked: Asked) -> None:
    """Print every mistake in the user's own files, one per line; if there are none, counts of their records.

    Raises
    ------
    InputError
        If there is a mistake.
    """
    layout = asked.layout()
    found = Found()
    datasets = {name: OwnData(layout, name, found) for name in layout.config.datasets}
    for own in datasets.values():
        own.check_articles()
    for own in datasets.values():
        articles = datasets[knowledge_base(layout.config, own.dataset)].linked()
        own.check_passages(articles)
        own.check_questions(articles)
        own.check_entities()
    check_runs(layout, found)
    print("\n".join(found.listing()))
    if found.mistakes:
        raise InputError(f"mistakes in the data: {len(found.mistakes)}; fix them and check again")


class Found:
    """What was found: mistakes with their kinds, counts of records, and notes that stop no job.

    A mistake in a file shared by several datasets counts once.
    """

    def __init__(self):
        self.mistakes: dict[str, str] = {}
        self.counts: list[str] = []
        self.notes: list[str] = []

    def add(self, message: str, kind: str = OF_A_FILE) -> None:
        """Add a mistake."""
        self.mistakes.setdefault(message, kind)

    @contextmanager
    def file(self) -> Iterator[None]:
        """Turn an `InputError` of the block into a mistake, and continue after the block."""
        try:
            yield
        except InputError as error:
            self.add(str(error))

    def listing(self) -> list[str]:
        """The mistakes, and how many more there are of each kind; the counts if there are none."""
        lines = list(self.mistakes)[:MOST_LINES]
        if left := list(self.mistakes.values())[MOST_LINES:]:
            kinds = Counter(left)
            lines.append(f"and {len(left)} more: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}")
        nothing = ["no dataset of this config is read from files of your own (`path` in datasets.NAME.source)"]
        return [*(lines or self.counts or nothing), *dict.fromkeys(self.notes)]


class Table:
    """Records that belong together, such as those of a split, read from one or more files.

    Parameters
    ----------
    found
        Collects the mistakes.
    kinds, limits
        Kinds of problems to look for; those within limits are counted but are no mistakes.
    """

    def __init__(self, found: Found, kinds: Iterable[str], limits: dict[str, int]):
        self.found, self.problems = found, Problems(kinds, limits)
        self.rows, self.errors, self.sound = 0, [], True

    @contextmanager
    def file(self) -> Iterator[list[RecordError]]:
        """Collect the errors of one file's records; a file of another format counts as one error, its first."""
        errors, rows = [], self.rows
        try:
            yield errors
        except InputError as error:
            self._fail(error)
        if self.rows == rows and errors and isinstance(errors[0], FormatError):
            self._fail(errors[0])
        else:
            self.note(errors)

    def _fail(self, error: InputError) -> None:
        self.sound = False
        self.found.add(str(error))

    def note(self, errors: Iterable[RecordError]) -> None:
        """Count errors of records."""
        for error in errors:
            self.problems.add(error.kind, str(error))
            self.errors.append(error)

    def finish(self, called: str, empty: str) -> bool:
        """Report errors beyond the limits as mistakes; returns whether the files are readable and not empty."""
        excess = self.problems.excess()
        for error in self.errors:
            for one in error.all() if error.kind in excess else ():
                self.found.add(str(one), one.kind)
        if not self.rows and self.sound and not excess:
            self.found.add(empty)
        self.found.counts.append(f"{self.rows} {called}: {self.problems}")
        return self.sound and self.rows > 0


class OwnData:
    """The user's own files in a dataset's source.

    Parameters
    ----------
    layout
        Layout of the config.
    dataset
        Name of the dataset.
    found
        Collects the mistakes.
    """

    def __init__(self, layout: Layout, dataset: str, found: Found):
        self.layout, self.dataset, self.found = layout, dataset, found
        self.entry, self.sources = layout.config.datasets[dataset], layout.sources[dataset]
        self.articles: Dataset | None = None  # to which questions and passages are linked

    # ---- Files -----------------------------------------------------------------------------------------------------

    def files(self, key: str) -> dict[str, list[Path]] | None:
        """Role -> the user's own files that exist, the others being mistakes; None if the source is not the user's."""
        source = self.sources.get(key, {})
        if "path" not in source:
            return None
        local, there = {**source, "path": self.layout.own.shown(source["path"])}, {}
        with self.found.file():
            folder_of(local)
            for role, files in files_by_role(local).items():
                there[role] = [file for file in files if file.exists()]
                for file in files:
                    if not file.exists():
                        self.found.add(absence(file))
                if not files:
                    self.found.add(f"{local['path']}: has no file {source['files'][role]} for its {role}")
        return there

    def folder(self, *keys: str) -> Path | None:
        """The folder of images under the first existing key, the user's own or fetched; None if it does not exist."""
        key = next((key for key in keys if key in self.sources), None)
        if key is None:
            return None
        source = self.sources[key]
        if "archives" in source["files"]:
            self.files(key)
            path = self.layout.place(self.layout.made("images", source=source["name"]))
        elif "path" in source:
            path = next(iter((self.files(key) or {}).get("images", [])), None)
        else:
            path = self.layout.place(self.layout.made("source", source=source["name"])) / "images"
        if path and path.is_dir():
            return path
        self.found.notes.append(f"{self.dataset}: images are not checked, since their folder does not exist")
        return None

    def each(self, paths: Iterable[Path]) -> Iterator[Path]:
        """The files of paths, including those in folders."""
        for path in paths:
            with self.found.file():
                yield from files_of(path)

    # ---- Records ---------------------------------------------------------------------------------------------------

    def check_articles(self) -> None:
        """Check the articles, and keep them to check links to them."""
        if (files := self.files("wikipedia")) is None:
            return
        table, places, batches = Table(self.found, ARTICLE_PROBLEMS, self.entry.limits), Places(), []
        if not (paths := [path for role in files.values() for path in role]):
            return
        for path in self.each(paths):
            with table.file() as errors:
                for chunk in read_articles([path]):
                    places.add(chunk)
                    batches.append(chunk.batch.select(COLUMNS))
                    table.rows += len(chunk.batch)
                    errors += chunk.malformed
                    errors += _kept(path, chunk, table.problems)
        with self.found.file():
            table.note(places.alike())
        sound = table.finish(f"articles of {self.dataset}", no_article(paths))
        if sound and all(files.values()):
            self.articles = Dataset(pa.Table.from_batches(batches))
            self._check_article_images()

    def linked(self) -> Dataset | None:
        """The articles to which questions and passages may be linked: those checked, or those of a run."""
        path = self.layout.place(self.layout.table("articles", self.dataset))
        if self.articles is None and "path" not in self.sources.get("wikipedia", {}) and path.is_dir():
            self.articles = load_from_disk(str(path)).select_columns(COLUMNS)
        return self.articles

    def _check_article_images(self) -> None:
        """Count unreadable images: a mistake if limits are exceeded or none can be read."""
        folder = self.folder("article_images", "images")
        names = sorted(set(self.articles["image"]) - {None}) if folder else []
        broken = {name: reason for name in names if (reason := self._unreadable(folder, name))}
        limit = self.entry.limits.get(UNREADABLE)
        messages = [f"{reason}, the image of an article" for reason in broken.values()]
        if limit is not None and len(broken) > limit:
            for message in messages:
                self.found.add(message, UNREADABLE)
        elif names and len(broken) == len(names) and self._sees():
            self.found.add(f"{folder}: none of the {len(names)} images of articles can be read")
        elif broken:
            self.found.notes.append(
                f"{len(broken)} of {len(names)} images of articles are unusable, such as {messages[0]}"
            )

    def _sees(self) -> bool:
        """Whether any model of the config uses images."""
        models = {experiment.model for experiment in self.layout.experiments.values()}
        return any(getattr(self.layout.config.models[name], "backbone", None) for name in models)

    @staticmethod
    def _unreadable(folder: Path, name: str) -> str | None:
        try:
            check_image(folder / name)
        except ImageError as error:
            return str(error)
        return None

    def check_passages(self, articles: Dataset | None) -> None:
        """Check published passages, whose titles must be those of the articles."""
        if (files := self.files("passages")) is None:
            return
        if articles is None:
            self.found.notes.append(f"{self.dataset}: passages are not checked, since its articles cannot be read")
            return
        if not (paths := files.get("passages")):
            return
        table, titles = Table(self.found, ["malformed"], {}), list(articles["title"])
        for path in self.each(paths):
            with table.file() as errors:
                for row, error in read_passages([path], titles):
                    table.rows += row is not None
                    errors += [error] if error else []
        table.finish(f"passages of {self.dataset}", no_passage(paths))

    def check_questions(self, articles: Dataset | None) -> None:
        """Check the questions of all splits, their images, and their links to articles."""
        if (files := self.files("questions")) is None:
            return
        if made_for_us(self.entry.source):
            self.found.notes.append(f"{self.dataset}: questions are not checked, since source.trivia has their text")
            return
        job = self.layout.job("questions", {"dataset": self.dataset})
        if articles is None:
            self.found.notes.append(f"{self.dataset}: links to articles are not checked, since those cannot be read")
        find = Links(articles, job.settings["link"]) if articles else _unlinked
        folder, ids = self.folder("images"), Unique("id")
        images = folder or (Path("images") if "images" in job.inputs else None)
        broken: dict[str, str] = {}
        for split, paths in ((split, paths) for split, paths in files.items() if paths):
            table = Table(self.found, QUESTION_PROBLEMS, self.entry.limits)
            for path in self.each(paths):
                with table.file() as errors:
                    for record, row, error in read_questions([path], find, images, ids, look=folder is not None):
                        errors += _of_question(record, row, error, ids)
                        table.rows += row is not None
                        if row and folder and row["image"] not in broken:
                            reason = self._unreadable(folder, row["image"])
                            broken[row["image"]] = reason and f"{record.place}: field 'image': {reason}"
            table.finish(f"{split} questions of {self.dataset}", no_question(paths[0]))
        reasons = list(filter(None, broken.values()))
        if len(reasons) > self.entry.limits.get(UNREADABLE, 0):
            for reason in reasons:
                self.found.add(reason, UNREADABLE)

    def check_entities(self) -> None:
        """Check the table of entities with several images."""
        files = self.files("entities")
        folder = self.folder("images") if files else None
        for table in (files or {}).get("entities", []) if folder else ():
            try:
                held = find_images(table, folder)
            except RecordError as error:
                for one in error.all():
                    self.found.add(str(one), one.kind)
            except InputError as error:
                self.found.add(str(error))
            else:
                count = f"{len(held.found)} entities of {self.dataset}"
                self.found.counts.append(f"{count}: {len(held.missing)} of their images are missing")


def check_runs(layout: Layout, found: Found) -> None:
    """Check runs made elsewhere."""
    for name, run in layout.config.runs.items():
        for path in map(layout.own.path, (run.validation, run.test)):
            with found.file():
                if not path.is_file():
                    raise InputError(absence(path))
                read = read_run(path, note=lambda error: found.add(str(error), "malformed"))
                found.counts.append(f"{len(read)} questions of run {name} in {path}")


def _kept(path: Path, chunk: Articles, problems: Problems) -> Iterator[RecordError]:
    """Problems of a chunk's articles that do not drop them; without a limit they are only counted."""
    for kind in KEPT:
        if problems.limits[kind] is ANY:
            problems.extend(kind, chunk.problems[kind])
        else:
            for title in chunk.problems[kind]:
                yield RecordError(f"{path}: article {title!r} has {kind}", kind)


def _of_question(record: Record, row: dict | None, error: RecordError | None, ids: Unique) -> list[RecordError]:
    """The errors of a question; a repeated id is reported even if something else is wrong."""
    if row:
        message = f"{record.place}: field 'output' has no answer"
        return [] if has_answer(row["output"]) else [RecordError(message, "no answer")]
    try:
        if error.kind != "repeated":
            ids.add(record.word("id"), record)
    except RecordError as other:
        error.others += [other] if other.kind == "repeated" else []
    return [error]


def _unlinked(record: Record, provenance: list[dict]) -> tuple[int, str]:
    """A placeholder for a question's article if articles cannot be read."""
    return 0, record.get("wikidata_id", str, "")
