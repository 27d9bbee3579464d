"""Ways to end a process at once, by which a falsifier or a conftest.py would leave a run that is not green with code 0.

Both sorts of guard hold for calls through `os` in the process of the run; its children leave as they like. What ends a
process without a call of Python's (a signal, C code) is out of reach.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from pv.account import Account

EXITS = ("_exit", "execv", "execve")
"""All of os.exec* end in one of the latter two."""

Guard = Callable[[str, Callable[..., Any]], Callable[..., Any]]
"""Makes, of a name of EXITS and the function that has it now, what is called in its place."""


@contextmanager
def guarded(guard: Guard) -> Iterator[None]:
    """Inside, what `guard` makes stands in the place of each function of EXITS."""
    homes = [module for module in (os, sys.modules.get(os.name)) if module is not None]
    before = [(home, name, getattr(home, name)) for home in homes for name in EXITS if hasattr(home, name)]
    for home, name, real in before:
        setattr(home, name, guard(name, real))
    try:
        yield
    finally:
        for home, name, real in before:
            setattr(home, name, real)


def of_a_trial(account: Account) -> Guard:
    """Ways out are errors of the falsifier; but for a child after a fork, and a watchdog in a thread: _exit."""
    process = os.getpid()

    def guard(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            if os.getpid() != process or (name == "_exit" and threading.get_ident() != account.thread):
                return real(*arguments, **keywords)
            first = [*arguments, *keywords.values()][:1]
            shown = f"{first[0]!r}" if first else ""
            account.spoil(f"the falsifier called os.{name}({shown}), which would have ended the run unseen")
            raise SystemExit(first[0] if name == "_exit" and first else 1)

        return call

    return guard


def of_a_run(meant: Callable[[], int]) -> Guard:
    """A process that leaves with 0, or becomes another program, while `meant` is another code, leaves with that."""
    process = os.getpid()
    leave = os._exit

    def refuse(name: str, code: int) -> NoReturn:
        told = f"FAILED: os.{name} would have ended this run unseen; its exit code is {code}\n"
        sys.stdout.flush()
        os.write(2, told.encode())
        leave(code)

    def guard(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            code = meant() if os.getpid() == process else 0
            if code and (name != "_exit" or not any([*arguments, *keywords.values()])):
                refuse(name, code)
            return real(*arguments, **keywords)

        return call

    return guard
