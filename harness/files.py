"""Which files are specs; writing files so that nobody ever sees half of one, or some of them."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

SPEC_SUFFIXES = (".yaml", ".yml")
PART = ".part"  # how the names of unfinished files end


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that at any moment it is absent, the old one, or whole. A link is followed.

    Raises:
        OSError: it could not be written, or is no regular file; the old one, if any, is untouched.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file")
    write_together({path: content})


def write_together(files: Mapping[Path, bytes], retract: Path | None = None) -> None:
    """Write several files: each is whole beside its old self before the first takes its name, in the order given.

    `retract`, say what vouches for the files, is removed before any of them changes. A process that is killed
    leaves at most its ``.part`` files behind; see :func:`remove_parts`.

    Raises:
        OSError: they could not be written; nothing has changed.
    """
    staged: dict[Path, Path] = {}
    try:
        for path, content in files.items():
            if path.is_dir():  # no name for a file: the renaming would stop half-way
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
            handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PART, dir=path.parent)
            staged[path] = Path(temporary)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            staged[path].chmod(0o666 & ~mask)
        if retract is not None:
            retract.unlink(missing_ok=True)
        for path, whole in staged.items():
            whole.replace(path)
    finally:
        for part in staged.values():
            part.unlink(missing_ok=True)


def is_directory(path: Path) -> bool:
    """Return whether there is a directory; of a name that is too long for there to be any, no."""
    try:
        return path.is_dir()
    except OSError:
        return False


def refuse_outside(path: Path, root: Path) -> None:
    """Refuse to write where nobody asked to, because links lead there: a default place that is not below `root`.

    Raises:
        OSError: it is not.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise OSError(errno.EXDEV, f"a link that leads outside {root.resolve().name}")


def remove_parts(directory: Path) -> None:
    """Remove what killed processes left of files they were writing; only where no other process writes."""
    for part in directory.glob(f".*{PART}"):
        part.unlink(missing_ok=True)
