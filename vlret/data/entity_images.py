"""Fetching images of entities from their URLs, sequentially, as Wikimedia asks of programs.

Programs must identify themselves: https://foundation.wikimedia.org/wiki/Policy:Wikimedia_Foundation_User-Agent_Policy
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
UNFINISHED = ".unfinished"  # folder of partial downloads
START = 2**16  # bytes read to tell an image from something else


def fetch_images(table: Path, contact: str, out: Path, report: Path) -> None:
    """Fetch the images of a table that the folder `out` lacks; an interrupted call can be repeated.

    A URL that cannot be used, or is not of an image, is skipped and reported.

    Parameters
    ----------
    table
        As in `vlret.data.entities.build`; plain file names in it must exist in `out` already.
    contact
        E-mail or web address by which server operators can reach the user.
    out
        The folder of the images.
    report
        JSON: number of images, and which could not be fetched and why.

    Raises
    ------
    InputError
        For a table of another format, if no image can be fetched, and if no file can be written.
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
        except Exception as error:  # URLs and servers can fail in too many ways to list
            failures[address] = f"{address}: cannot be fetched: {error_summary(error)}"
    with suppress(OSError):  # not empty: the next call resumes
        (out / UNFINISHED).rmdir()
    found = find_images(table, out)
    count = len({file for files in found.found.values() for file in files})
    examples = dict(list(failures.items())[:EXAMPLES])
    write_json(report, {"images": count, "missing": {"count": len(found.missing), "examples": examples}})
    if not count:
        raise InputError(f"{table}: none of its images can be found; {next(iter(failures.values()), 'it names none')}")
    say(f"{count} images, {len(found.missing)} are missing")


def _fetch(address: str, out: Path, headers: Mapping[str, str]) -> None:
    """Fetch one image; removes it and raises `InputError` if its bytes are not those of an image.

    Partial downloads have a folder of their own: among millions of images they would take long to find.
    """
    fetched = out.parent / UNFINISHED / out.name
    fetched.parent.mkdir(exist_ok=True)
    transfer(address, fetched, None, None, headers, most=MOST_BYTES, shown=False)
    with open(fetched, "rb") as stream:
        kind = content_kind(stream.read(START))
    if kind is None:
        remove(fetched)
        raise InputError(f"{address}: not an image ({', '.join(FORMATS)}, SVG), perhaps a web page")
    fetched.replace(out)
