"""Which files are specs; writing a file so that nobody ever sees half of it."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

SPEC_SUFFIXES = (".yaml", ".yml")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that at any moment it is absent, the old one, or whole. A link is followed.

    Raises:
        OSError: it could not be written, or is no regular file; the old one, if any, is untouched.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file")
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
