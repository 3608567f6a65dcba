"""Compare the largest batches of a config with the entities of existing questions, before any job runs."""

from vlret.batches import check_batch
from vlret.files import read_json
from vlret.layout.jobs import Layout
from vlret.made import made_by


def check_batches(layout: Layout) -> None:
    """Raise an `InputError` if existing questions have fewer entities than their largest batch needs."""
    for dataset, batch in layout.batches.items():
        if (entities := _entity_count(layout, dataset)) is not None:
            check_batch(batch, entities)


def _entity_count(layout: Layout, dataset: str) -> int | None:
    """Number of entities in a dataset's training questions; None if these are not read yet or outdated."""
    table = layout.table("questions", dataset)
    report = layout.place(layout.made(table.rule, "report", dataset=dataset))
    if not report.is_file() or made_by(layout.place(table)) != layout.digest(table):
        return None
    own = [layout.place(file) for file in layout.users()]
    if any(path.exists() and path.stat().st_mtime > report.stat().st_mtime for path in own):
        return None
    train = read_json(report).get("train", {})
    return train if isinstance(train, int) else train.get("entities")
