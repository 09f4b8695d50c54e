"""Suffixes of spec files; atomic writing of one file, or of several files together."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import lru_cache, update_wrapper
from pathlib import Path
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

SPEC_SUFFIXES = (".yaml", ".yml")
PART = ".part"  # suffix of the temporary directories that hold unfinished files
TURN = ".harness.lock"  # lock file of a directory; the process that writes reports there holds it


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that at any moment it is absent, old, or complete. A link is followed.

    Raises:
        OSError: it could not be written, or is no regular file; an old file is unchanged.
    """
    write_together({_regular(path): content})


def write_in_turn(files: Mapping[Path, bytes]) -> None:
    """Write several files of one directory together, under a lock. Links are followed.

    Processes write one after the other, so all files come from the same process. Unfinished versions of these files
    that killed processes left are removed.

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
    """Write several files: all are first written completely to temporary files, then renamed in the given order.

    The file `retract`, for example a pin that vouches for the files, is removed before any of them changes. A killed
    process leaves at most one ``.part`` in each directory; see :func:`remove_parts`.

    Raises:
        OSError: they could not be written; nothing has changed.
    """
    staging: dict[Path, Path] = {}  # target directory → temporary directory in it, for the new files
    try:
        for path, content in files.items():
            if path.is_dir():  # a file cannot replace it: the renaming would stop half-way
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
    """Remove the unfinished files that killed processes left: all, or those of `name`.

    Call it only where no other process writes.
    """
    for part in directory.glob(f".{glob.escape(name)}*{PART}"):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:  # an older version made files instead of directories
            part.unlink(missing_ok=True)


def is_directory(path: Path) -> bool:
    """Return whether `path` is a directory; False if its name is too long for the file system."""
    try:
        return path.is_dir()
    except OSError:
        return False


def refuse_outside(path: Path, root: Path) -> None:
    """Refuse a default path that links lead outside `root`: nobody asked to write there.

    Raises:
        OSError: the path is not below `root`.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise OSError(errno.EXDEV, f"a link that leads outside {root.resolve().name}")


def version_of(path: Path) -> tuple[int, int, int]:
    """Return what changes when the file at `path` is written: its modification time, size and inode.

    Raises:
        OSError: there is no such file.
    """
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def once_per_version(most: int) -> Callable[[F], F]:
    """Return a decorator for a function that reads the file at its first argument: it is read anew when it changed.

    At most `most` results are kept. The arguments must be positional and hashable.
    """

    def decorate(read: F) -> F:
        @lru_cache(maxsize=most)
        def cached(version: object, path: Path, *arguments: Any) -> Any:
            return read(path, *arguments)

        def reading(path: Path, *arguments: Any) -> Any:
            try:
                version = version_of(path)
            except OSError:
                return read(path, *arguments)  # which says what is wrong
            return cached(version, path, *arguments)

        return cast(F, update_wrapper(reading, read))

    return decorate
