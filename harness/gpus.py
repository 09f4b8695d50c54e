"""One GPU for each of xdist's workers, by ``CUDA_VISIBLE_DEVICES``. Imports no torch, which must not have looked yet.

Several processes on one GPU only wait for each other, and each takes memory of its own there; on a machine with
several, all of them would choose the first.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping

VISIBLE = "CUDA_VISIBLE_DEVICES"


def gpu_of(worker: str, gpus: list[str]) -> str | None:
    """Return the GPU of the worker ``gw0``, ``gw1``, …: they go round; None if there is none, or no such number."""
    number = re.fullmatch(r"gw(\d+)", worker)
    return gpus[int(number[1]) % len(gpus)] if number and gpus else None


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """Return the GPUs that ``CUDA_VISIBLE_DEVICES`` lets a process see, by number or UUID; if it is not set, all."""
    if VISIBLE not in environment:
        return [str(number) for number in range(_count())]
    listed = []
    for name in environment[VISIBLE].split(","):
        if not name.strip() or name.strip().startswith("-"):
            break  # CUDA reads no further either
        listed.append(name.strip())
    return listed


def _count() -> int:
    """Return how many GPUs the driver's own command lists; 0 where there is no such command, or it has no answer."""
    try:
        done = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return 0
    return len(re.findall(r"^GPU \d+:", done.stdout, re.MULTILINE))
