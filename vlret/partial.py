"""`vlret table`: the table of the finished rows, while others still run or have failed."""

from pathlib import Path

from vlret.asked import Asked
from vlret.evaluation.table import table
from vlret.files import InputError
from vlret.settings import Evaluation


def show(asked: Asked, out: Path | None = None) -> None:
    """Print the table of the finished rows; its caption names the others.

    Files are written to `out` (default: `results/<table>.partial.tex`) and beside it, not to the workflow's table.

    Raises
    ------
    InputError
        If no row is done.
    """
    layout = asked.layout()
    job, made = layout.job("table", {}), layout.made("table", "tex")
    path = out or Path(made).with_suffix(".partial.tex")
    questions = Path(job.inputs["questions"])
    if not questions.exists():
        raise InputError("no row is done yet: the questions are missing")
    known = {**job.settings, "settings": Evaluation(**job.settings["settings"])}
    table(metrics=[Path(layout.metrics("")).parent], questions=questions, out=path, partial=True, **known)
    print(path.with_suffix(".md").read_text(encoding="utf-8"))
