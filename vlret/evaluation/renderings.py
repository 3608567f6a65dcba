"""A table in five formats: LaTeX, Markdown, HTML, CSV, and the p-values of all pairs as CSV.

`lines` decides the content of the cells; LaTeX, Markdown and HTML only format it.
"""

import csv
import html
import io
import subprocess
from collections import Counter
from collections.abc import Mapping
from datetime import date
from itertools import groupby, pairwise, repeat
from pathlib import Path
from string import Template, ascii_lowercase
from typing import NamedTuple

import numpy as np

from vlret import __version__
from vlret.evaluation.page import PAGE
from vlret.evaluation.results import PARTS, Results

LABELS = {"mrr": "MRR", "precision": "P", "hit_rate": "Hit"}
CORRECTED = {
    "none": "without correction for the number of comparisons",
    "holm": "after Holm's correction for the {pairs} pairs of rows",
    "benjamini-hochberg": "after Benjamini and Hochberg's correction for the {pairs} pairs of rows",
}
RELEVANT = {
    "static": "A passage is relevant if it is of the linked article and contains an answer; all rows are judged by the "
    "same static qrels",
    "dynamic": "A passage is relevant if any row retrieves it and it contains an answer, whatever its article; all "
    "rows are judged by the same dynamic qrels, pooled over all of them (choices on validation were made by static "
    "ones)",
}
MATCHED = {
    "meerqat": "",
    "whole-words": " Answers are matched by the rule whole-words: a passage contains one if no letter, digit or mark "
    "is next to it.",
}
LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "≤": r"$\le$", "–": "--", "\u00a0": "~",
}  # fmt: skip
TABLE = Template(r"""% $origin
% Needs \usepackage{booktabs} and \usepackage{graphicx}.
\begin{table}[t]
\centering
\caption{$caption}
\label{tab:retrieval}
\par\medskip
\setlength{\tabcolsep}{3pt}
\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%
\begin{tabular}{@{}$columns@{}}
\toprule
& \multicolumn{4}{l}{Experiment} & Validation & \multicolumn{$tested}{l}{Test} \\
\cmidrule(lr){2-5} \cmidrule(lr){6-6} \cmidrule(l){7-$last}
& Model & Tuning & Prefix & Pooling & $headings \\
\midrule
$rows
\bottomrule
\end{tabular}}
$remarks
\end{table}
""")


class Cell(NamedTuple):
    """A cell: its text, whether it is the best of its column, and the rows that it beats."""

    text: str
    best: bool = False
    beats: tuple[int, ...] = ()


class Line(NamedTuple):
    """A row: its mark (a, b, …), its four parts or one name, and its cells in the order of `columns`."""

    mark: str
    label: list[str]
    cells: list[Cell]


def metric_label(metric: str) -> str:
    """The printed name of a metric: `hit_rate@5` is Hit@5."""
    name, _, cut = metric.partition("@")
    return f"{LABELS.get(name, name)}@{cut}"


def figure(value: float) -> str:
    """Format with three decimals, without a leading zero: .523."""
    return f"{value:.3f}".removeprefix("0")


def mark(row: int) -> str:
    """The letter of a row, from 0: a … z, aa, ab, …"""
    letters = ""
    row += 1
    while row:
        row, letter = divmod(row - 1, 26)
        letters = ascii_lowercase[letter] + letters
    return letters


def marks(rows: tuple[int, ...]) -> str:
    """The superscript of rows: their letters, three or more consecutive ones as a range."""
    spans: list[list[int]] = []
    for row in rows:
        if spans and spans[-1][-1] == row - 1:
            spans[-1].append(row)
        else:
            spans.append([row])
    return ",".join(
        f"{mark(span[0])}–{mark(span[-1])}" if len(span) > 2 else ",".join(map(mark, span)) for span in spans
    )


def columns(results: Results) -> list[str]:
    """The headings of the cells: main metric on validation; main metric on test, its interval, other test metrics."""
    main, *others = map(metric_label, results.shown)
    return [f"Validation {main}", f"Test {main}", f"{100 * results.settings.interval:g}\u00a0% interval", *others]


def lines(results: Results) -> list[Line]:
    """The rows of the table; the best value is decided after rounding, so that equal figures look alike."""
    main = results.shown[0]
    tested = [_column(results, metric) for metric in results.shown]
    spans = [Cell(f"{figure(low)}–{figure(high)}") for low, high in results.intervals[main].tolist()]
    stacked = [_cells(results.validation[main], [()] * len(results.rows)), tested[0], spans, *tested[1:]]
    found = []
    for row, entry in enumerate(results.rows):
        parts = [entry[part] for part in PARTS]
        label = ["–" if part in ("", "none") else part for part in parts]
        label = label if entry["name"] == "_".join(parts) else [entry["name"]]
        found.append(Line(mark(row), label, [column[row] for column in stacked]))
    return found


def notes(results: Results) -> list[tuple[str, str]]:
    """`(mark, note)` of rows with a note."""
    return [(mark(row), entry["note"]) for row, entry in enumerate(results.rows) if entry["note"]]


def caption(results: Results) -> str:
    """The caption, which makes the table readable by itself."""
    settings, counts = results.settings, results.counts
    main, times = metric_label(results.shown[0]), f"{settings.permutations:,}"
    entity = settings.groups == "entity"
    lacking = counts["without_relevant"]
    judged = f" ({lacking} of them without relevant passage, counted as zero)" if lacking else ""
    return (
        f"Retrieval of relevant passages for {counts['test']:,} test questions{judged} about {counts['entities']:,} "
        f"entities. {RELEVANT[settings.qrels]}.{MATCHED[results.matching]} The best value of a column is bold. "
        f"Superscripts name the rows with a significantly lower value: {test_description(results)}. "
        f"The {100 * settings.interval:g}\u00a0% interval "
        f"of test {main} is a percentile bootstrap over {'entities' if entity else 'questions'} ({times} samples). "
        f"Validation {main} is over {counts['validation']:,} questions, on which every choice was made."
        f"{arithmetic(results)}{missing(results)}"
    )


def arithmetic(results: Results) -> str:
    """A sentence of a caption on the precision of encoders and of stored vectors; rows that differ are named."""
    said = {name: _precision(how) for name, how in results.encoded.items()}
    common = Counter(said.values()).most_common(1)
    others = "".join(f"; {name}: {how}" for name, how in said.items() if how != common[0][0])
    return f" Encoders: {common[0][0]}{others}." if common else ""


def _precision(encoded: Mapping) -> str:
    """`trained in fp32, products in bf16, vectors in float16`; training and products together if they are alike."""
    trained, precision = encoded.get("trained"), encoded.get("precision")
    before = f"trained in {trained}, " if trained not in (None, precision) else ""
    return f"{before}products in {precision}, passages' vectors in {encoded.get('stored')}"


def missing(results: Results) -> str:
    """The last sentence of a caption, on missing rows."""
    return f" Not done yet: {', '.join(results.missing)}." if results.missing else ""


def origin(results: Results) -> str:
    """The version, config and date of the table."""
    commit = commit_of()
    return f"vlret {__version__}{commit and f' ({commit})'}, config {results.config}, {date.today().isoformat()}"


def commit_of() -> str:
    """The program's commit, with a plus if files have changed since; empty outside a git clone."""
    here = Path(__file__).parents[2]
    if not (here / ".git").exists():
        return ""
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return ""  # no git, or another user's clone, which git refuses to read


def test_description(results: Results) -> str:
    """The significance test behind the superscripts, and its level."""
    settings, pairs = results.settings, len(results.rows) * (len(results.rows) - 1) // 2
    entity = settings.groups == "entity"
    if settings.test == "t":
        test = f"paired t-test, two-sided{', over the sums of the questions of each entity' if entity else ''}"
    else:
        swapped = ", questions of one entity swapped together" if entity else ""
        test = f"Fisher's randomisation test, two-sided, {settings.permutations:,} permutations{swapped}"
    correction = CORRECTED[settings.correction].format(pairs=f"{pairs:,}")
    seed = f", seed {results.seed}" if settings.test == "randomisation" else ""
    return f"{test}, p ≤ {settings.p:g} {correction}{seed}"


def latex(results: Results) -> str:
    """A `table` environment; it needs the packages booktabs and graphicx."""
    headings = [heading.removeprefix("Validation ").removeprefix("Test ") for heading in columns(results)]
    # Extra space between models with several rows.
    blocks = [list(block) for _, block in groupby(lines(results), lambda line: line.label[0] if line.label[1:] else "")]
    rows = []
    for before, block in pairwise([[], *blocks]):
        rows += [r"\addlinespace"] if before and max(len(before), len(block)) > 1 else []
        rows += map(_tex_line, block)
    remarks = "; ".join(rf"\textsuperscript{{{letters}}}\,{_tex(note)}" for letters, note in notes(results))
    return TABLE.substitute(
        origin=origin(results),
        caption=_tex(caption(results)),
        columns="l" * (5 + len(headings)),
        tested=len(headings) - 1,
        last=5 + len(headings),
        headings=" & ".join(map(_tex, headings)),
        rows="\n".join(rows),
        remarks=rf"\par\smallskip{{\footnotesize {remarks}.\par}}" if remarks else "%",
    )


def markdown(results: Results) -> str:
    """A caption and a pipe table, as GitHub and GitLab render it."""
    rows = [["", *map(str.capitalize, PARTS), *columns(results)]]
    rows.append(["---"] * len(rows[0]))
    for line in lines(results):
        label = [_plain(part) for part in line.label]
        rows.append([line.mark, *label, *[""] * (4 - len(label)), *map(_markdown_cell, line.cells)])
    body = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    remarks = "".join(f"- <sup>{letters}</sup> {_plain(note)}\n" for letters, note in notes(results))
    return f"{_plain(caption(results))}\n\n{body}\n" + (f"\n{remarks}" if remarks else "")


def page(results: Results) -> str:
    """A self-contained HTML document, readable, printable and sortable."""
    main = results.shown[0]
    remarks, most = dict(notes(results)), results.intervals[main].max()
    rows = [
        _html_row(line, results, remarks.get(line.mark, ""), _whisker(low, high, mean, most))
        for line, (low, high), mean in zip(lines(results), results.intervals[main], results.test[main], strict=True)
    ]
    head = [_button("Row"), *map(str.capitalize, PARTS), *map(_button, columns(results))]
    return PAGE.substitute(
        caption=html.escape(caption(results)),
        origin=html.escape(origin(results)),
        head="".join(f'<th scope="col">{text}</th>' for text in head),
        rows="\n".join(rows),
    )


def table_csv(results: Results) -> str:
    """All metrics in full precision: both splits, test intervals, and the rows significantly beaten."""
    head = ["row", "name", *PARTS, "note"]
    head += [f"validation_{metric}" for metric in results.metrics]
    head += [f"test_{metric}{kind}" for metric in results.metrics for kind in ("", "_low", "_high", "_beats")]
    rows = []
    for row, entry in enumerate(results.rows):
        cells = [mark(row), entry["name"], *(entry[part] for part in PARTS), entry["note"]]
        cells += [float(results.validation[metric][row]) for metric in results.metrics]
        for metric in results.metrics:
            cells += [float(results.test[metric][row]), *results.intervals[metric][row].tolist()]
            cells.append(" ".join(map(mark, results.beaten(metric, row))))
        rows.append(cells)
    return _csv([head, *rows])


def p_values_csv(results: Results) -> str:
    """Each pair of rows for each metric: the difference of test means (a - b), its p-value, and the corrected one."""
    names = np.array([entry["name"] for entry in results.rows])
    a, b = np.triu_indices(len(names), 1)
    rows = [["metric", "a", "b", "difference", "p", "corrected"]]
    for metric, p in results.p_values.items():
        differences = results.test[metric][a] - results.test[metric][b]
        values = (names[a], names[b], differences, p[a, b], results.corrected[metric][a, b])
        rows += zip(repeat(metric), *(column.tolist() for column in values), strict=False)
    return _csv(rows)


SUFFIXES = {".tex": latex, ".md": markdown, ".html": page, ".csv": table_csv, ".pvalues.csv": p_values_csv}


def _column(results: Results, metric: str) -> list[Cell]:
    """The cells of a test metric, one per row."""
    return _cells(results.test[metric], [tuple(results.beaten(metric, row)) for row in range(len(results.rows))])


def _cells(values: np.ndarray, beaten: list[tuple[int, ...]]) -> list[Cell]:
    texts = list(map(figure, values.tolist()))
    return [Cell(text, text == max(texts), beats) for text, beats in zip(texts, beaten, strict=True)]


def _csv(rows: list[list]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _tex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


def _tex_line(line: Line) -> str:
    label = " & ".join(map(_tex, line.label))
    label = label if len(line.label) > 1 else rf"\multicolumn{{4}}{{l}}{{{label}}}"
    return rf"{line.mark} & {label} & {' & '.join(map(_tex_cell, line.cells))} \\"


def _tex_cell(cell: Cell) -> str:
    text = _tex(cell.text)
    text = rf"\textbf{{{text}}}" if cell.best else text
    return rf"{text}\textsuperscript{{{_tex(marks(cell.beats))}}}" if cell.beats else text


def _plain(text: str) -> str:
    """Escape text for Markdown."""
    escaped = "".join(f"\\{character}" if character in r"\`*_[]|~" else character for character in text)
    return html.escape(escaped, quote=False)


def _markdown_cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.best else cell.text
    return f"{text}<sup>{marks(cell.beats)}</sup>" if cell.beats else text


def _button(text: str) -> str:
    return f'<button type="button">{html.escape(text)}</button>'


def _html_row(line: Line, results: Results, note: str, whisker: str) -> str:
    first, *others = map(html.escape, line.label)
    span = "" if others else ' colspan="4"'
    remark = f"<small>{html.escape(note)}</small>" if note else ""
    label = f'<th scope="row"{span}>{first}{remark}</th>' + "".join(f"<td>{part}</td>" for part in others)
    cells = []
    for place, cell in enumerate(line.cells):
        text = f"<strong>{cell.text}</strong>" if cell.best else cell.text
        if cell.beats:
            names = html.escape(", ".join(results.rows[row]["name"] for row in cell.beats))
            text += f'<sup title="significantly better than {names}">{marks(cell.beats)}</sup>'
        cells.append(f"<td>{whisker if place == 2 else ''}{text}</td>")
    return f'<tr><td class="m">{line.mark}</td>{label}{"".join(cells)}</tr>'


def _whisker(low: float, high: float, mean: float, most: float) -> str:
    """The interval as a line with a dot at the mean, on a scale from 0 to the table's highest bound."""
    left, right, middle = (2 + 96 * float(value) / max(float(most), 1e-9) for value in (low, high, mean))
    return (
        '<svg viewBox="0 0 100 10" aria-hidden="true"><path d="M2 5H98"/>'
        f'<path class="i" d="M{left:.1f} 5H{right:.1f}"/><circle cx="{middle:.1f}" cy="5" r="3"/></svg>'
    )
