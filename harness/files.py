"""Which files are specs; writing files so that nobody ever sees half of one, or some of them."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

SPEC_SUFFIXES = (".yaml", ".yml")
PART = ".part"  # how the names of unfinished files' directories end
TURN = ".harness.lock"  # whoever writes reports into a directory holds it


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that at any moment it is absent, the old one, or whole. A link is followed.

    Raises:
        OSError: it could not be written, or is no regular file; the old one, if any, is untouched.
    """
    write_together({_regular(path): content})


def write_in_turn(files: Mapping[Path, bytes]) -> None:
    """Write several files of one directory together, one process after the other. Links are followed.

    So they are all of one process, whoever else writes there; what killed processes left of them is removed.

    Raises:
        OSError: they could not be written; nothing has changed.
    """
    from filelock import FileLock

    with FileLock(next(iter(files)).parent / TURN):
        whole = {_regular(path): content for path, content in files.items()}
        for path in whole:
            remove_parts(path.parent, path.name)
        write_together(whole)


def _regular(path: Path) -> Path:
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file")
    return path


def write_together(files: Mapping[Path, bytes], retract: Path | None = None) -> None:
    """Write several files: each is whole beside its old self before the first takes its name, in the order given.

    `retract`, say what vouches for the files, is removed before any of them changes. A process that is killed
    leaves at most one ``.part`` in each directory behind; see :func:`remove_parts`.

    Raises:
        OSError: they could not be written; nothing has changed.
    """
    staging: dict[Path, Path] = {}  # a directory, and the one in it where its new files wait
    try:
        for path, content in files.items():
            if path.is_dir():  # no name for a file: the renaming would stop half-way
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
            if path.parent not in staging:
                made = tempfile.mkdtemp(prefix=f".{path.name}.", suffix=PART, dir=path.parent)
                staging[path.parent] = Path(made)
            with (staging[path.parent] / path.name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if retract is not None:
            retract.unlink(missing_ok=True)
        for path in files:
            (staging[path.parent] / path.name).replace(path)
    finally:
        for part in staging.values():
            shutil.rmtree(part, ignore_errors=True)


def remove_parts(directory: Path, name: str = "") -> None:
    """Remove what killed processes left of files they were writing, all or those of `name`.

    Only where no other process writes.
    """
    for part in directory.glob(f".{glob.escape(name)}*{PART}"):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:  # of a version of this that made files
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
