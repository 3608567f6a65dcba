"""Run every benchmark in turn and write their ratios as a table, with the machine and the date.

A benchmark that fails is named, and the exit status is 1; the others' ratios are written. Further options, such as
`--small --threads 1 --cpu-time`, are every benchmark's.
"""

import argparse
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
from bench import machine

HERE = Path(__file__).parent
RATIO = re.compile(r"ratio: (?P<what>.+): (?P<value>\S+)x (?P<peer>.+)")


def benchmarks() -> list[Path]:
    """The modules that can be run."""
    found = sorted(path for path in HERE.glob("*.py") if '__name__ == "__main__"' in path.read_text(encoding="utf-8"))
    return [path for path in found if path != Path(__file__)]


def run(path: Path, options: list[str]) -> tuple[int, list[str]]:
    """Exit status and output lines of a benchmark, which are shown as they come."""
    command = [sys.executable, str(path), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    return process.returncode, lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the table, Markdown")
    given, options = parser.parse_known_args()
    rows, failed = [], []
    for path in benchmarks():
        code, lines = run(path, options)
        failed += [path.stem] if code else []
        rows += [
            f"| {path.stem} | {m['what']} | {m['value']} | {m['peer']} |" for m in map(RATIO.fullmatch, lines) if m
        ]
    size = "smallest sizes" if "--small" in options else "full sizes"
    head = f"{date.today()}, {machine()}, {size}, options: {' '.join(options) or 'none'}."
    table = ["| benchmark | what | times the speed | of |", "| --- | --- | --- | --- |", *rows]
    broken = [f"Failed: {', '.join(failed)}.", ""] if failed else []
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join([head, "", *broken, *table, ""]), encoding="utf-8")
    print(f"{given.out}: {len(rows)} ratios" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
