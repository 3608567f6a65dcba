"""`vlret table`: the table of what is done, while the rest of the grid is at work or has failed."""

from pathlib import Path

from vlret.asked import Asked
from vlret.evaluation.table import table
from vlret.files import InputError
from vlret.settings import Evaluation


def show(asked: Asked, out: Path | None = None) -> None:
    """Print the table of the rows that are done; those that are not are named in its caption.

    The files are written to `out` and beside it, `results/<table>.partial.tex` if not given; the table that the
    workflow makes stays as it is.

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
        raise InputError("no row is done yet: the questions are not there")
    known = {**job.settings, "settings": Evaluation(**job.settings["settings"])}
    table(metrics=[Path(layout.metrics("")).parent], questions=questions, out=path, partial=True, **known)
    print(path.with_suffix(".md").read_text(encoding="utf-8"))
