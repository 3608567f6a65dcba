"""Report full and unwritable disks in one line, whichever library raises the error."""

import errno
import os
import shutil
from collections.abc import Iterator
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
    except InputError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in UNWRITABLE and error.filename:
            raise InputError(
                f"{error.filename}: {error.strerror}; check its permissions or choose another folder"
            ) from error
        folder = _written_folder(error, out)
        if _is_full(error, folder):
            raise InputError(f"disk full: {folder}") from error
        raise


def _written_folder(error: Exception, out: Path | None) -> Path:
    """The folder that was being written to."""
    named = Path(error.filename) if isinstance(error, OSError) and isinstance(error.filename, str) else out or Path()
    return next((folder for folder in named.absolute().parents if folder.is_dir()), Path())


def _is_full(error: Exception, folder: Path) -> bool:
    """Whether an error or its cause reports a full disk, or no space is left."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    if any(isinstance(each, OSError) and each.errno in FULL for each in chain):
        return True
    return any(os.strerror(errno.ENOSPC) in str(each) for each in chain) or shutil.disk_usage(folder).free < LEAST
