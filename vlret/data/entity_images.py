"""The images of entities from their addresses, one after the other, as Wikimedia asks of programs.

https://foundation.wikimedia.org/wiki/Policy:Wikimedia_Foundation_User-Agent_Policy: a program says who it is.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from vlret import __version__
from vlret.console import progress, say
from vlret.data.entities import EXAMPLES, file_of, find_images
from vlret.data.images import FORMATS, content_kind
from vlret.data.transfer import Unwritable, transfer
from vlret.files import InputError, error_summary, remove, write_json

MOST_BYTES = 200_000_000  # of an image
UNFINISHED = ".unfinished"  # folder of what has come in part
START = 2**16  # bytes that tell an image from something else


def fetch_images(table: Path, contact: str, out: Path, report: Path) -> None:
    """Fetch what a table of images names and the folder `out` lacks; may be broken off and called again.

    An address that cannot be used, or behind which there is no image, costs itself.

    Parameters
    ----------
    table
        As `vlret.data.entities.build` has it; file names in it that are no addresses must be in `out` already.
    contact
        An address, of mail or of the web, by which a server's operators find who runs this.
    out
        The folder of the images.
    report
        How many images are there, and which could not be fetched and why.

    Raises
    ------
    InputError
        For a table of another form, where no image can be had, and where no file can be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    missing = list(dict.fromkeys(find_images(table, out).missing))
    headers = {"User-Agent": f"vlret/{__version__} ({contact})"}
    failures: dict[str, str] = {}
    for address in progress(missing, len(missing), "image", "images of entities"):
        try:
            _fetch(address, out / file_of(address), headers)
        except Unwritable:
            raise
        except InputError as error:
            failures[address] = str(error)
        except Exception as error:  # of what an address may be, and servers say to it, there is no whole list
            failures[address] = f"{address}: cannot be fetched: {error_summary(error)}"
    with suppress(OSError):  # not empty: the next call goes on
        (out / UNFINISHED).rmdir()
    found = find_images(table, out)
    count = len({file for files in found.found.values() for file in files})
    examples = dict(list(failures.items())[:EXAMPLES])
    write_json(report, {"images": count, "missing": {"count": len(found.missing), "examples": examples}})
    if not count:
        raise InputError(f"{table}: none of its images can be had; {next(iter(failures.values()), 'it names none')}")
    say(f"{count} images, {len(found.missing)} are missing")


def _fetch(address: str, out: Path, headers: Mapping[str, str]) -> None:
    """Fetch one image; what is none by its bytes is removed, and an `InputError`.

    What has come in part lies in a folder of its own: among millions of images it would take long to find.
    """
    fetched = out.parent / UNFINISHED / out.name
    fetched.parent.mkdir(exist_ok=True)
    transfer(address, fetched, None, None, headers, most=MOST_BYTES, shown=False)
    with open(fetched, "rb") as stream:
        kind = content_kind(stream.read(START))
    if kind is None:
        remove(fetched)
        raise InputError(f"{address}: what came is no image ({', '.join(FORMATS)}, SVG), perhaps a web page")
    fetched.replace(out)
