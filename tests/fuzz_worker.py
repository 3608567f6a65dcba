"""Reads one damaged file after the other in a process of its own, which may hang, crash or run out of memory.

It is told by lines of JSON what to read, and answers with lines of JSON what went wrong. The file that is being read
lies in the folder `at`, so that it is known what ended the process.
"""

import base64
import faulthandler
import json
import os
import random
import signal
import sys
import tempfile
import traceback
import zlib
from pathlib import Path

from damages import inputs
from readers import FORMATS, Read, one_line

from vlret.features.workers import _limit_memory
from vlret.files import InputError

SECONDS = 10  # of computing that one file may take
WAITED = 300  # seconds, where it waits for something or the machine is busy
TOLD = 5  # faults of a format that are told


def fault(read: Read, content: bytes) -> str:
    """What is wrong with how a file is read; nothing where it is read rightly, or refused in one line."""
    try:
        try:
            read(content)
        except InputError as error:
            one_line(error)
    except Exception:
        return traceback.format_exc(limit=-6)
    return ""


def expression(content: bytes) -> str:
    """The bytes as a Python expression, to be pasted."""
    if len(content) <= 2000:
        return repr(content)
    return f"zlib.decompress(base64.b85decode({base64.b85encode(zlib.compress(content, 9)).decode()!r}))"


def fuzz(name: str, count: int, seed: int, at: Path, out) -> None:
    """Tell of the faults at some inputs, one of each place where they come up."""
    form = FORMATS[name]
    draw = random.Random(f"{name} {seed}")
    told: set[str] = set()
    with tempfile.TemporaryDirectory(dir=at) as folder:
        read, one = form.reader(Path(folder)), inputs(form.seeds(), form.damages, draw)
        for _ in range(count):
            content = one()
            (at / "input").write_bytes(content)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            faulthandler.dump_traceback_later(WAITED, exit=True)
            what = fault(read, content)
            signal.setitimer(signal.ITIMER_PROF, 0)
            faulthandler.cancel_dump_traceback_later()
            place = "".join(line for line in what.splitlines() if "File" in line)
            if what and place not in told and len(told) < TOLD:
                told.add(place)
                print(json.dumps({"fault": what, "input": expression(content)}), file=out, flush=True)
    print(json.dumps({"done": count}), file=out, flush=True)


def main(at: Path) -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is none of the answer
    _limit_memory()
    faulthandler.register(signal.SIGPROF, chain=True)  # by itself it ends the process
    for line in sys.stdin:
        fuzz(*json.loads(line), at, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
