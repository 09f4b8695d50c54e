"""Workers that die at any moment, under xdist's own controller: it comes to an end, and everything is reached."""

from __future__ import annotations

import random
from collections import Counter, deque
from types import SimpleNamespace

import pytest
from xdist.dsession import DSession
from xdist.scheduler import LoadScopeScheduling

from harness.plugin.scheduling import SCHEDULERS, ByFile

SHUTDOWN = object()


class Worker:
    """What xdist's controller sees of a worker: it is told what to do, and does one thing after the other."""

    def __init__(self, name, tests, putevent, done):
        self.gateway = SimpleNamespace(id=name, spec=name)
        self.tests, self.done, self.putevent = tests, done, putevent
        self.told, self.at, self.down, self.shutdown_sent = deque(), None, False, False
        self.workeroutput = {"exitstatus": 0, "shouldfail": False, "shouldstop": False}
        self.stages = iter([("workerready", {"workerinfo": {}}), ("collectionfinish", {"ids": tests})])

    @property
    def shutting_down(self):
        return self.down or self.shutdown_sent

    def send_runtest_some(self, indices):
        assert indices
        self.told.extend(indices)

    def shutdown(self):
        if not self.down:
            self.told.append(SHUTDOWN)
            self.shutdown_sent = True

    def put(self, event, **details):
        self.putevent((event, {"node": self, **details}))

    def step(self):
        """Do the next thing; return whether there was one. A test is begun only once the next is known."""
        if stage := next(self.stages, None):
            self.put(stage[0], **stage[1])
        elif self.down or not self.told:
            return False
        elif self.at is None and self.told[0] is not SHUTDOWN:
            self.at = self.told.popleft()
        elif self.at is None:
            self.down = True
            self.put("workerfinished")
        else:
            self.done[self.tests[self.at]] += 1
            self.put("runtest_protocol_complete", item_index=self.at, duration=0.0)
            self.at = None if self.told[0] is SHUTDOWN else self.told.popleft()
        return True

    def die(self):
        self.down, self.stages = True, iter(())
        self.put("errordown", error="Not properly terminated")


class Watching:
    """Keeps what workers died of."""

    def __init__(self, killers):
        self.killers = killers

    def pytest_handlecrashitem(self, crashitem):
        self.killers.append(crashitem)


def run_session(config, scheduler, rng, deaths):
    """Let xdist's controller have workers of which some die; return the tests, those done, and what was died of.

    Returns None where all wait for each other.
    """
    tests = [f"claims/{name}.yaml::claim-{n}" for name in "abc"[rng.randint(0, 2) :] for n in range(rng.randint(1, 4))]
    tests += [f"tests/test_own.py::test_{n}" for n in range(rng.randint(0, 2))]
    config.option.loadscopereorder = rng.random() < 0.5
    session, done, workers, killers = DSession(config), Counter(), [], []
    session._session = SimpleNamespace(testscollected=0)
    session.sched = scheduler(config, session.log)
    session.shouldstop = False
    watching = config.pluginmanager.register(Watching(killers))

    def add_worker(_=None):
        worker = Worker(f"gw{len(workers)}", tests, session.queue.put, done)
        workers.append(worker)
        session._active_nodes.add(worker)

    session._clone_node = add_worker
    add_worker()
    add_worker()
    try:
        while not session.session_finished:
            alive = [worker for worker in workers if not worker.down]
            if deaths and alive and rng.random() < 0.05:
                deaths -= 1
                rng.choice(alive).die()
            elif not session.queue.empty() and rng.random() < 0.5:
                session.loop_once()
            elif not any(worker.step() for worker in rng.sample(workers, len(workers))):
                if session.queue.empty():
                    return None
                session.loop_once()
    finally:
        config.pluginmanager.unregister(name=watching)
    assert not session.shouldstop
    return tests, done, killers


@pytest.fixture
def config(pytester):
    return pytester.parseconfig("--tx=2*popen", "--dist=load")


@pytest.mark.slow
@pytest.mark.parametrize("dist", SCHEDULERS)
@pytest.mark.parametrize("deaths", [0, 1, 3])
def test_whichever_workers_die_whenever_all_is_reached(config, dist, deaths):
    killed = 0
    for seed in range(300):
        tests, done, killers = run_session(config, SCHEDULERS[dist], random.Random(seed), deaths)
        assert done.keys() | set(killers) == set(tests)
        assert max(done.values(), default=1) == 1
        killed += len(killers)
    assert 50 * deaths <= killed <= 300 * deaths


def test_xdists_own_way_of_giving_more_would_wait_for_ever(config):
    """Once this fails, `Surviving._reschedule` is needed no more."""

    class Waiting(ByFile):
        _reschedule = LoadScopeScheduling._reschedule

    ends = [run_session(config, Waiting, random.Random(seed), deaths=1) for seed in range(300)]
    assert None in ends
