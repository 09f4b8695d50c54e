"""Processes that can be killed: forked from a server that has imported everything and computed nothing.

That takes no time. All of them compute with one thread, as weights are the same to the last bit only for the same
number of threads.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing import forkserver
from pathlib import Path

import matplotlib as mpl
import pytest
import torch

import harness.cli
import harness.reporting.page
from harness.base.files import PART
from harness.training import runs as making

PROCESSES = multiprocessing.get_context("forkserver")
PATIENCE = 600  # seconds; only a test that fails waits so long
WRITING = {"open", "tempfile.mkdtemp", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}  # events of Python's audit


def start_server(module, directory):
    """Start the server, which imports the test file `module`, too."""
    places = [Path(__file__).parent.parent, Path(__file__).parent, directory]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, places)))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("OMP_WAIT_POLICY", "passive")  # two threads on a busy machine must not spin
        patch.setenv("MPLCONFIGDIR", mpl.get_configdir())
        PROCESSES.set_forkserver_preload([module])
        forkserver.ensure_running()


def parts(directory):
    """Return the files that wait for their names, by the path at which they do; all in one directory."""
    assert len(list(directory.glob(f".*{PART}"))) <= 1
    return {str(path.relative_to(directory)): path.name for path in directory.glob(f".*{PART}/*")}


def run_in_child(function, *arguments):
    """Run the function in a child and return how that ended: its exit code, or minus the signal."""
    child = PROCESSES.Process(target=function, args=arguments)
    child.start()
    child.join(PATIENCE)
    assert child.exitcode is not None
    return child.exitcode


# What runs in the children.


def in_child(log):
    torch.set_num_threads(1)
    sys.stderr = Path(log).open("a", 1, encoding="utf-8")  # noqa: SIM115 - the process's own, up to its end


def do(program, arguments, directory, log):
    """Run `harness` or `pytest` in a directory, and return its exit code."""
    in_child(log)
    sys.stdout = sys.stderr
    os.chdir(directory)
    for name in list(os.environ):  # of whoever runs these tests
        if name.startswith("PYTEST") or name in ("CI", "GITHUB_STEP_SUMMARY"):
            del os.environ[name]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # others cost time
    making.CHECKPOINT_EVERY = 5
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        if program == "harness":
            code = harness.cli.main(arguments)
        else:
            code = int(pytest.main(["-p", "harness.plugin", "-p", "no:cacheprovider", *arguments]))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is done
        return code
    except KeyboardInterrupt:
        return 130


def run_program(program, arguments, directory, log):
    """Run it as a process's all."""
    sys.exit(do(program, arguments, directory, log))


def is_write(event, arguments):
    """Return whether what Python's audit tells of is something that is done to a file."""
    if event == "open":
        return isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in WRITING


def run_until(number, moment, delay, counted, *program):
    """Run it, and send ourselves the signal `number` some seconds after we are at our `moment`-th write."""

    def watch(event, arguments):
        if is_write(event, arguments):
            counted.value += 1
            if counted.value == moment:
                if delay:
                    threading.Timer(delay, os.kill, (os.getpid(), number)).start()
                else:
                    os.kill(os.getpid(), number)

    sys.addaudithook(watch)
    try:
        sys.exit(do(*program))
    except KeyboardInterrupt:  # before the program began, which opens its log first
        sys.exit(130)
