"""Runs jobs: one after the other in this process, or on the machines of a Ray cluster.

A job is a function without arguments that can be pickled. On a cluster, each job is one Ray task. Ray chooses its
machine and handles the death of a machine. A finished job stays finished: its result is fetched as soon as it exists,
and its files are on the disk that all machines share.
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

from harness.base.errors import FixtureError, HarnessError, Problem

T = TypeVar("T")
Do = Callable[[Mapping[str, Callable[[], T]]], Iterator[tuple[str, T | Exception]]]
CONNECT_SECONDS = 5  # for a quick test that something listens; Ray itself may take minutes to give up


@contextmanager
def job_runner(address: str | None, fixtures: Path, device: str) -> Iterator[Do[Any]]:
    """Yield a function that runs jobs. It takes jobs by name; it yields each name with its result or error when done.

    `address` is the address of a Ray cluster; with None, jobs run in this process. On a cluster, a job gets one GPU
    unless `device` is cpu or the cluster has no GPU. Jobs run in the current directory's path, which must be the same
    directory on every machine, with the same `fixtures`. While a cluster is connected, ``sys.stdout`` is stderr: the
    output of tasks and Ray's messages about them go there.

    Raises:
        HarnessError: Ray is not installed, no cluster answers at `address`, `device` names a GPU by number, or
            `fixtures` is not writable.
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
    ):  # Ray's threads print to stdout, where a report may go
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
        except Exception as error:  # the other jobs still run
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
        except ray.exceptions.RayTaskError as error:  # its text is the traceback on the worker
            print(error, file=sys.stderr)
            result = error.cause
        except ray.exceptions.RayError as error:  # the worker died, also when Ray retried
            said = " ".join(str(error).split("\n\n")[0].split())
            result = HarnessError.of("a worker that lives to the end", said, "see Ray's logs", pending[ready])
        yield pending.pop(ready), result


def _there(directory: Path, witness: Path, job: Callable[[], T]) -> T | HarnessError:
    """Run a job on a machine of the cluster; return its result, or the HarnessError that stopped it."""
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
    """Yield a temporary file in `fixtures`: a machine that sees it has the same fixtures directory."""
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
    except Exception as error:  # Ray has no exception class for all failures here
        said = (error.strerror if isinstance(error, OSError) else None) or str(error).split("\n")[0].rstrip(".")
        raise HarnessError.of(f"a Ray cluster at {address}", said, start) from None
    try:
        yield ray
    finally:
        ray.shutdown()
