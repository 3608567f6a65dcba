"""Report full and unwritable disks in one line, whichever library raises the error."""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vlret.files import InputError

FULL, UNWRITABLE = (errno.ENOSPC, errno.EDQUOT), (errno.EACCES, errno.EPERM, errno.EROFS)
LEAST = 2**14  # bytes; a disk with less free space counts as full


@contextmanager
def disk_errors(out: Path | None) -> Iterator[None]:
    """Convert errors due to a full or unwritable disk to an `InputError` that names the folder."""
    try:
        yield
    except Exception as error:
        chain = _causes(error)
        folder = _written_folder(chain, out)
        if any(map(_says_full, chain)):
            raise InputError(f"disk full: {folder}") from error
        if isinstance(error, InputError):
            raise
        if isinstance(error, OSError) and error.errno in UNWRITABLE and error.filename:
            raise InputError(
                f"{error.filename}: {error.strerror}; check its permissions or choose another folder"
            ) from error
        if shutil.disk_usage(folder).free < LEAST:
            raise InputError(f"disk full: {folder}") from error
        raise


def _causes(error: Exception) -> list[BaseException]:
    """An error and those that led to it."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    return chain


def _says_full(error: BaseException) -> bool:
    """Whether an error reports a full disk, by number or in words."""
    return (isinstance(error, OSError) and error.errno in FULL) or os.strerror(errno.ENOSPC) in str(error)


def _written_folder(chain: Sequence[BaseException], out: Path | None) -> Path:
    """The folder that was being written to."""
    named = [error.filename for error in chain if isinstance(error, OSError) and isinstance(error.filename, str)]
    path = Path(named[0]) if named else out or Path()
    return next((folder for folder in path.absolute().parents if folder.is_dir()), Path())
