"""Preparing knowledge bases of growing size: articles and passages per second, memory, and linearity.

`tests/published.py` generates files in the published layout. Ours are the workflow's commands; their memory is the peak
over all their processes. The reference is ViQuAE's approach: `datasets.map` over articles, one Python dict each, with
passages collected in a list, once with our sentences and once with spaCy's `sentencizer`. Our time includes child
processes, but not the start of a command. `--stages` continues with the rest of the workflow and a tiny random encoder,
verb by verb; `--workflow` runs Snakemake with `config/viquae.yaml`, from image archives to the table, with the tiny
models and rows of `tests/miniature.py`.
"""

import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
import spacy
from bench import clock, options, ratio
from datasets import Dataset, load_from_disk

sys.path.append(str(Path(__file__).parent.parent / "tests"))
import published
import spacys

from vlret.data.passages import body, by_tokens
from vlret.settings import Passages

TOKENS = Passages(tokens=100)
SHARES = (0.638, 0.338)  # non-humans, humans with faces: ViQuAE's
REFERENCE = 2000  # articles for the reference


class Spent(NamedTuple):
    """CPU seconds, wall seconds and peak private memory in bytes of all processes of a command."""

    cpu: float
    wall: float
    memory: int

    def by(self, given: Namespace) -> float:
        """The seconds to compare."""
        return self.cpu if given.cpu_time else self.wall


def vlret(*arguments: object) -> Spent:
    """Run one verb."""
    return run([sys.executable, "-m", "vlret", *map(str, arguments)], {"OMP_NUM_THREADS": "1"})


def run(command: list[str], variables: dict[str, str], folder: Path | None = None) -> Spent:
    """Run a command; show its output if it fails."""
    environment = {**os.environ, **variables}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
        memory = [0]
        watch = threading.Thread(target=_watch, args=(process, memory))
        watch.start()
        code = process.wait()
        watch.join()
        if code:
            log.seek(0)
            raise SystemExit(f"{' '.join(command[1:5])}: {log.read()[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(cpu, time.perf_counter() - start, memory[0])


def _watch(process: subprocess.Popen, most: list[int]) -> None:
    """Record the peak private memory of a process and its children (file pages can be dropped)."""
    while process.poll() is None:
        held = 0
        try:
            top = psutil.Process(process.pid)
            for one in [top, *top.children(recursive=True)]:
                held += one.memory_info().rss - one.memory_info().shared
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue  # it ended meanwhile
        most[0] = max(most[0], held)
        time.sleep(0.2)


def report(name: str, spent: Spent, count: int, unit: str) -> None:
    print(
        f"  {name}: {count / spent.cpu:,.0f} {unit}/s of CPU, {spent.cpu:.1f} s of CPU, {spent.wall:.1f} s, "
        f"{spent.memory / 2**30:.2f} GiB",
        flush=True,
    )


def prepare(folder: Path, articles: int, workers: int) -> tuple[Spent, Spent, int]:
    """Import articles and split passages; the cost of each, and the number of passages."""
    counts = known(articles)
    start = time.process_time()
    files = published.wikipedia(folder / "raw", counts)
    size = sum(path.stat().st_size for path in files) / 2**30
    print(f"{articles} articles, {size:.2f} GiB packed, generated in {time.process_time() - start:.0f} s", flush=True)
    data = folder / "data"
    where = ["--out", data / "articles", "--report", data / "articles.json", "--workers", workers]
    read = vlret("data", "articles", "--wikipedia", *files, "--limits", "{}", *where)
    report("articles", read, articles, "articles")
    where = ["--articles", data / "articles", "--out", data / "passages", "--workers", workers]
    cut = vlret("data", "passages", "--settings", TOKENS.model_dump_json(), *where)
    passages = len(load_from_disk(str(data / "passages")))
    report("passages", cut, articles, "articles")
    print(f"  {passages} passages, {passages / cut.cpu:,.0f}/s of CPU, {_size(data):.2f} GiB on disk", flush=True)
    return read, cut, passages


def _size(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**30


def known(articles: int) -> tuple[int, int, int]:
    first, second = (int(share * articles) for share in SHARES)
    return first, second, articles - first - second


def reference(articles: Path, folder: Path, cut, given: Namespace) -> float:
    """Seconds per article of `datasets.map` with `cut` (text to passages), including writing the passages."""
    table = load_from_disk(str(articles)).select(range(min(REFERENCE, len(load_from_disk(str(articles))))))
    passages: list[dict] = []

    def collect(article: dict, row: int) -> dict:
        own = cut(body(article["paragraphs"]))
        first = len(passages)
        passages.extend({"article": row, "title": article["title"], "text": text} for text in own)
        article["passage_index"] = list(range(first, len(passages)))
        return article

    start = clock(given)()
    table.map(
        collect,
        with_indices=True,
        load_from_cache_file=False,
        cache_file_name=str(folder / "mapped.arrow"),
        new_fingerprint="collected",
    )
    Dataset.from_list(passages).save_to_disk(folder / "collected")
    return (clock(given)() - start) / len(table)


def spacys_passages(text: str, of: spacy.Language) -> list[str]:
    """Passages from spaCy's sentencizer, grouped as in ViQuAE's code."""
    passages, group, length = [], [], 0
    for sentence in of(text).sents:
        if group and length + len(sentence) > TOKENS.tokens:
            passages.append(" ".join(group))
            group, length = [], 0
        group.append(sentence.text)
        length += len(sentence)
    return [*passages, " ".join(group)] if group else passages


def compare(folder: Path, ours: float, given: Namespace) -> None:
    """Time the reference on the same articles; `ours` is in seconds per article."""
    contestants = {
        "datasets.map, our sentences": lambda text: by_tokens(text, TOKENS.tokens),
        "datasets.map, spaCy's sentencizer": partial(spacys_passages, of=spacys.pipeline()),
    }
    for name, cut in contestants.items():
        seconds = reference(folder / "data" / "articles", folder, cut, given)
        print(f"  {name}: {1 / seconds:,.0f} articles/s", flush=True)
        ratio("splitting articles into passages", seconds / ours, name)


def workflow(folder: Path, articles: int) -> None:
    """Run the workflow on a knowledge base of `articles` articles; report its cost and that of each rule."""
    # Here, as they need torch and Snakemake.
    import yaml
    from miniature import miniature
    from test_pipeline import copy_repository

    copy_repository(folder)
    config = miniature(folder, known=known(articles))
    (folder / "config" / "miniature.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    print(f"{articles} articles: generated", flush=True)
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "results/table.tex"]
    variables = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    spent = run([*command, "--configfile", "config/miniature.yaml"], variables, folder)
    print(f"  the workflow: {spent.cpu:.0f} s of CPU, {spent.wall:.0f} s, {spent.memory / 2**30:.2f} GiB at once")
    jobs = {}
    for path in sorted((folder / "results").rglob("benchmarks/**/*.tsv")):
        row = dict(zip(*(line.split("\t") for line in path.read_text().splitlines()), strict=True))
        name = str(path.relative_to(folder / "results").with_suffix("")).replace("/benchmarks", "")
        if row["max_uss"] != "NA":  # too short a job to sample
            jobs[name] = float(row["s"]), float(row["max_uss"])
    for name, (seconds, mebibytes) in sorted(jobs.items(), key=lambda job: -job[1][0])[:20]:
        print(f"  {name}: {seconds:.0f} s, {mebibytes / 1024:.2f} GiB, as Snakemake sampled it", flush=True)


OTHERS = {
    "--workers": {"type": int, "default": 1, "help": "processes of each command"},
    "--stages": {"action": "store_true", "help": "also run the rest of the workflow, at the last size"},
    "--workflow": {"action": "store_true", "help": "run only the workflow, at each size"},
    "--folder": {"type": Path, "help": "where to create temporary folders"},
}


def stages(folder: Path, articles: int, passages: int) -> None:
    """Run the stages after the preparation in its folder, and report the cost of each."""
    # Here, as it needs torch.
    from stages import Stages

    def measure(name: str, *verb: object) -> None:
        report(name, vlret(*verb), passages, "passages")

    Stages(folder, known(articles), measure).run()


def main():
    given = options(__doc__, OTHERS, articles=([4000, 12000], [100, 200]))
    if given.workflow:
        for articles in given.articles:
            with tempfile.TemporaryDirectory(dir=given.folder) as folder:
                workflow(Path(folder), articles)
        return
    started = 0.0, 0.0
    if not given.small:  # there it varies by more than the work takes
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            started = [spent.by(given) for spent in prepare(Path(folder), 100, 1)[:2]]
        print(f"  starting the two commands takes {sum(started):.1f} s, excluded below")
    costs = []
    for articles in given.articles:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            read, cut, passages = prepare(Path(folder), articles, given.workers)
            costs.append((read.by(given) + cut.by(given) - sum(started)) / articles)
            print(f"  both: {1 / costs[-1]:,.0f} articles/s, {passages / articles / costs[-1]:,.0f} passages/s")
            if articles == given.articles[0]:
                compare(Path(folder), (cut.by(given) - started[1]) / articles, given)
            if given.stages and articles == given.articles[-1]:
                stages(Path(folder), articles, passages)
    if len(costs) > 1:
        first, last = given.articles[0], given.articles[-1]
        ratio(f"preparing {last} articles, per article", costs[0] / costs[-1], f"preparing {first}")


if __name__ == "__main__":
    main()
