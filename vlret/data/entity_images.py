"""The images of entities from their addresses, one after the other, as Wikimedia asks of programs.

https://foundation.wikimedia.org/wiki/Policy:Wikimedia_Foundation_User-Agent_Policy: a program says who it is.
"""

from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from vlret import __version__
from vlret.console import progress, say
from vlret.data.entities import EXAMPLES, find_images
from vlret.data.transfer import transfer
from vlret.files import InputError, write_json

MOST_BYTES = 200_000_000  # of an image


def fetch_images(table: Path, contact: str, out: Path, report: Path) -> None:
    """Fetch what a table of images names and the folder `out` lacks; may be broken off and called again.

    Parameters
    ----------
    table
        As `vlret.data.entities.build` has it; file names in it that are no addresses must be in `out` already.
    contact
        An address, of mail or of the web, by which a server's operators find who runs this.
    report
        How many images are there, and which could not be fetched and why.

    Raises
    ------
    InputError
        For a table of another form, and where no image can be had.
    """
    out.mkdir(parents=True, exist_ok=True)
    missing = list(dict.fromkeys(find_images(table, out).missing))
    headers = {"User-Agent": f"vlret/{__version__} ({contact})"}
    failures: dict[str, str] = {}
    for address in progress(missing, len(missing), "image", "images of entities"):
        try:
            transfer(address, out / _name(address), None, None, headers, most=MOST_BYTES, shown=False)
        except InputError as error:
            failures[address] = str(error)
    found = find_images(table, out)
    count = len({file for files in found.found.values() for file in files})
    examples = dict(list(failures.items())[:EXAMPLES])
    write_json(report, {"images": count, "missing": {"count": len(found.missing), "examples": examples}})
    if not count:
        raise InputError(f"{table}: none of its images can be had; {next(iter(failures.values()), 'it names none')}")
    say(f"{count} images, {len(found.missing)} are missing")


def _name(address: str) -> str:
    """The file that an address is fetched to: its last part."""
    name = unquote(PurePosixPath(urlsplit(address).path).name)
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise InputError(f"{address}: its last part is no file name")
    return name
