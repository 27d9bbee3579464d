import os
import signal

import pytest

from pv import processes
from pv.errors import PvError
from pv.processes import available, shared


def double(number: int) -> tuple[int, int]:
    return 2 * number, os.getpid()


def dies(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_come_in_the_order_of_the_tasks_from_other_processes(monkeypatch):
    monkeypatch.setattr(processes, "_may_fork", lambda: True)
    found = list(shared(double, range(20), 2, chunk=3))
    assert [number for number, _ in found] == list(range(0, 40, 2))
    assert os.getpid() not in {process for _, process in found}


@pytest.mark.parametrize("jobs", [0, 1])
def test_with_fewer_than_two_jobs_this_process_does_the_work(jobs):
    assert list(shared(double, [1], jobs)) == [(2, os.getpid())]


def test_a_process_with_several_threads_is_not_copied(monkeypatch):
    monkeypatch.setattr(os, "listdir", lambda path: ["1", "2"])
    assert not processes._may_fork()
    assert list(shared(double, [1, 2], 2)) == [(2, os.getpid()), (4, os.getpid())]
    monkeypatch.setattr(os, "listdir", lambda path: ["1"])
    assert processes._may_fork()


def test_a_killed_process_is_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(processes, "_may_fork", lambda: True)
    with pytest.raises(PvError, match=r"^a process was killed while it measured\n  hint: take less$"):
        list(shared(dies, range(6), 2, lighter="take less"))


def test_at_least_one_processor_is_available():
    assert available() >= 1
