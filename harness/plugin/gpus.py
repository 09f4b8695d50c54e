"""Chooses one GPU for each xdist worker, through ``CUDA_VISIBLE_DEVICES``.

Imports no torch: the variable must be set before torch reads it. Several processes on one GPU only wait for each other,
and each needs its own memory there. On a machine with several GPUs, all workers would otherwise choose the first.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping

VISIBLE = "CUDA_VISIBLE_DEVICES"


def gpu_of(worker: str, gpus: list[str]) -> str | None:
    """Return the GPU of the worker ``gw0``, ``gw1``, …, in rotation; None without GPUs or with another worker name."""
    number = re.fullmatch(r"gw(\d+)", worker)
    return gpus[int(number[1]) % len(gpus)] if number and gpus else None


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """Return the GPUs that ``CUDA_VISIBLE_DEVICES`` allows, by number or UUID; all GPUs if it is not set."""
    if VISIBLE not in environment:
        return [str(number) for number in range(_count())]
    listed = []
    for name in environment[VISIBLE].split(","):
        if not name.strip() or name.strip().startswith("-"):
            break  # CUDA also ignores the rest of the list
        listed.append(name.strip())
    return listed


def _count() -> int:
    """Return how many GPUs ``nvidia-smi`` lists; 0 if there is no such command, or it fails."""
    try:
        done = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return 0
    return len(re.findall(r"^GPU \d+:", done.stdout, re.MULTILINE))
