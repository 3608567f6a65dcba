"""docs/own-data.md as it stands: its folder, its config, its command."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import load_from_disk
from PIL import Image

from vlret.files import read_jsonl, write_jsonl
from vlret.runs import read_qrels

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "own-data.md").read_text()


def block(begin: str) -> str:
    """The code block of the page that begins so."""
    return next(text for text in re.findall(r"```\w*\n(.*?)```", PAGE, re.DOTALL) if text.startswith(begin))


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """What the workflow needs of this repository, and beside it a folder of somebody's own data."""
    folder = tmp_path_factory.mktemp("own")
    for name in ("config", "rules", "workflow", "envs", "profiles", "vlret", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    # Two training questions are about two entities: a batch cannot be larger.
    (folder / "mine.yaml").write_text(block("# mine.yaml") + "training: {defaults: {batch_size: 2}}\n")
    question, article = json.loads(block('{"id"')), json.loads(block('{"wikipedia_id"'))
    mine = folder / "mine"
    (mine / "images").mkdir(parents=True)
    for image in (question["image"], article["image"]):
        Image.new("RGB", (8, 8)).save(mine / "images" / image)
    for split in ("train", "validation", "test"):
        entities = (question["wikidata_id"], "Q585" if split == "train" else question["wikidata_id"])
        questions = [{**question, "id": f"{split}{row}", "wikidata_id": entity} for row, entity in enumerate(entities)]
        write_jsonl(mine / f"{split}.jsonl", questions)
    other = {"wikipedia_id": "2", "wikipedia_title": "Oslo", "image": None, "wikidata_id": "Q585"}
    write_jsonl(mine / "wikipedia.jsonl", [article, other | {"text": {"paragraph": ["Oslo\n", "Oslo is not Rome.\n"]}}])
    return folder


def run(folder: Path, fails: bool = False, begin: str = "snakemake") -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", block(begin).splitlines()[0]],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert (done.returncode != 0) == fails, done.stdout[-5000:]
    return done.stdout


def test_wrong_data_is_the_line_that_the_page_shows_and_right_data_are_judged(repository: Path):
    train = repository / "mine" / "train.jsonl"
    right = [values for _, values in read_jsonl(train)]
    write_jsonl(train, [right[0], {**right[1], "image": "gone.jpg"}])
    output = run(repository, fails=True)
    shown = next(line for line in output.splitlines() if line.startswith("vlret: error"))
    assert shown == block("vlret: error").strip()
    assert shown.removeprefix("vlret: error: ") in run(repository, fails=True, begin="vlret data check").splitlines()
    write_jsonl(train, right)
    assert "2 train questions of mine: 0 with no answer" in run(repository, begin="vlret data check")
    run(repository)
    assert read_qrels(repository / "results" / "mine" / "data" / "qrels" / "test.trec") == {"test0": {0}, "test1": {0}}
    passages = load_from_disk(str(repository / "results" / "mine" / "data" / "passages"))
    assert [text.strip() for text in passages["text"]] == ["Rome is the capital of Italy.", "Oslo is not Rome."]
    linked = repository / "results" / "downloads" / "sources" / "mine-questions" / "train.jsonl"
    assert linked.is_symlink()
    assert linked.samefile(train)
