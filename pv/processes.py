"""Work shared among processes."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from pv.errors import PvError

Task = TypeVar("Task")
Result = TypeVar("Result")


def available() -> int:
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def shared(
    function: Callable[[Task], Result], tasks: Sequence[Task], jobs: int, *, chunk: int = 1, lighter: str = ""
) -> Iterator[Result]:
    """The results in the order of the tasks. PvError where a process was killed.

    jobs     how many processes may work; with fewer than two, or with threads about, this one does
    chunk    tasks that a process is given at a time
    lighter  what the user can do if there was not enough memory
    """
    if jobs < 2 or not _may_fork():
        yield from map(function, tasks)
        return
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    with ProcessPoolExecutor(jobs, get_context("fork"), _begin) as processes:
        try:
            yield from processes.map(function, tasks, chunksize=chunk)
        except BrokenProcessPool:
            raise PvError("a process was killed while it measured", hint=lighter) from None


def _may_fork() -> bool:
    """Whether this process has but one thread: a lock that another one holds would never be released in a copy."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
