"""Where jobs are done: one after the other here, or on the machines of a Ray cluster.

A job is a function of no arguments that can be pickled; on a cluster each is one of Ray's tasks, and which machine does
it, and what happens when that machine dies, is Ray's affair. A job that was done stays done: its result is fetched as
soon as there is one, and what it wrote is on the disk that all machines share.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from harness.errors import FixtureError, HarnessError, Problem

T = TypeVar("T")
Do = Callable[[Mapping[str, Callable[[], T]]], Iterator[tuple[str, T | Exception]]]
CONNECT_SECONDS = 5  # to see that something listens, before Ray tries, which may take minutes to give up


@contextmanager
def machines(address: str | None, fixtures: Path, device: str) -> Iterator[Do[Any]]:
    """Yield what does jobs: it takes them by name, and yields each name with the result, or the error, when done.

    `address` is that of a Ray cluster; None does them here. A job with a GPU's device gets a GPU, if the cluster has
    any. Jobs run in a directory called as this one, which must be this one, with the same `fixtures`. While a cluster
    is connected, ``sys.stdout`` is stderr: what tasks print, and Ray says of them, comes among ours.

    Raises:
        HarnessError: no Ray, no cluster at this address, a GPU by its number, or `fixtures` cannot be written to.
    """
    if address is None:
        yield _here
        return
    if device.startswith("cuda:"):
        fix = "leave out the number: Ray gives each job a GPU, the only one that it sees"
        raise HarnessError.of("a device auto, cpu or cuda with --ray", device, fix)
    with (
        redirect_stdout(sys.stderr),
        _connected(address) as ray,
    ):  # Ray's threads print, and a report may be printed too
        gpus = 1 if device != "cpu" and ray.cluster_resources().get("GPU") else 0
        task = ray.remote(num_cpus=1, num_gpus=gpus)(_there)
        with _witness(fixtures) as witness:
            yield lambda jobs: _on_cluster(ray, task, jobs, witness)


def _here(jobs: Mapping[str, Callable[[], T]]) -> Iterator[tuple[str, T | Exception]]:
    for name, job in jobs.items():
        try:
            result: T | Exception = job()
        except HarnessError as error:
            result = error
        except Exception as error:  # the others are done all the same
            traceback.print_exc()
            result = error
        yield name, result


def _on_cluster(
    ray: Any, task: Any, jobs: Mapping[str, Callable[[], T]], witness: Path
) -> Iterator[tuple[str, T | Exception]]:
    here = Path.cwd()
    pending = {task.options(name=name).remote(here, witness, job): name for name, job in jobs.items()}
    while pending:
        (ready,), _ = ray.wait(list(pending), num_returns=1)
        try:
            result = ray.get(ready)
        except ray.exceptions.RayTaskError as error:  # its text is the traceback there
            print(error, file=sys.stderr)
            result = error.cause
        except ray.exceptions.RayError as error:  # the worker died, again and again
            said = " ".join(str(error).split("\n\n")[0].split())
            result = HarnessError.of("a worker that lives to the end", said, "see Ray's logs", pending[ready])
        yield pending.pop(ready), result


def _there(directory: Path, witness: Path, job: Callable[[], T]) -> T | HarnessError:
    """Do a job on a machine of the cluster."""
    try:
        os.chdir(directory)
        shared = witness.exists()
    except OSError:
        shared = False
    if not shared:
        found = f"none, or another, on {platform.node()}"
        return FixtureError(
            Problem("the project's directory on every machine", found, "share it, at the same path", str(directory))
        )
    try:
        return job()
    except HarnessError as error:
        return error


@contextmanager
def _witness(fixtures: Path) -> Iterator[Path]:
    """Yield a file that is there for a moment: who sees it has the same directory of fixtures."""
    try:
        handle, name = tempfile.mkstemp(prefix=".seen-by-all.", dir=fixtures.resolve())
    except OSError as error:
        found = error.strerror or str(error)
        raise HarnessError.of("a directory that can be written", found, "check it", fixtures) from None
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Yield the module ``ray``, connected to the cluster at `address`."""
    try:
        import ray
    except ImportError:
        fix = "pip install 'mechanistic-harness[ray]'"
        raise HarnessError.of("Ray, which --ray needs", "no such package", fix) from None
    start = "ray start --head starts one; or name another"
    target = urlsplit(address if "://" in address else f"//{address}")
    try:
        if target.hostname and target.port:
            socket.create_connection((target.hostname, target.port), timeout=CONNECT_SECONDS).close()
        ray.init(address, logging_level=logging.ERROR)
    except Exception as error:  # Ray has no class of its own for what may go wrong here
        said = (error.strerror if isinstance(error, OSError) else None) or str(error).split("\n")[0].rstrip(".")
        raise HarnessError.of(f"a Ray cluster at {address}", said, start) from None
    try:
        yield ray
    finally:
        ray.shutdown()
