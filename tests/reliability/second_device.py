"""A device that is not the CPU, where there is no GPU: what `second_device.cpp` makes, for one process."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import torch

SOURCE = Path(__file__).with_suffix(".cpp")
COMPILER = shutil.which("c++")
DEVICE = "second:0"


def compile_device(out):
    """Compile the device to the file `out`, with the compiler `COMPILER`; this takes half a minute."""
    home = Path(torch.__file__).parent
    places = [f"-isystem{home / 'include'}", f"-isystem{home / 'include/torch/csrc/api/include'}", f"-L{home / 'lib'}"]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    how = ["-std=c++20", "-shared", "-fPIC", abi, *places]
    subprocess.run([COMPILER, *how, str(SOURCE), "-ltorch_cpu", "-lc10", "-o", str(out)], check=True)


def start_device(compiled, ulps=0, tf32=False):
    """Have PyTorch know the device from now on, and round on it as `second_device.cpp` says; once in a process."""
    torch.utils.rename_privateuse1_backend("second")
    module = ModuleType("torch.second")
    module.is_available = module.is_initialized = lambda: True
    module._is_in_bad_fork = lambda: False
    module.device_count, module.current_device, module.manual_seed_all = lambda: 1, lambda: 0, lambda seed: None
    torch._register_device_module("second", module)
    torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)
    torch.ops.load_library(str(compiled))
    torch.ops.second.rounding(ulps, tf32)
