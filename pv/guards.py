"""What is held against a falsifier that would decide a verdict by other means than its comparisons.

A falsifier runs in the process of its judge, so none of this stops an author who is set on cheating: it finds what can
happen by mistake, or in passing, and leaves to a reviewer what must be written on purpose (ARCHITECTURE.md lists it).
"""

import inspect
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pv import account, comparing, observation, outcome, patching, trial, watch
from pv.account import Account
from pv.guards_exits import guarded, of_a_trial

CURRENT_TEST = "PYTEST_CURRENT_TEST"
"""Where pytest writes the name of a node, and with it that of the mutant, for every process to read."""


@contextmanager
def unseen(account: Account) -> Iterator[None]:
    """Run an author's code inside: it cannot see the name of its node, nor end the process as if all were well."""
    named = os.environ.pop(CURRENT_TEST, None)
    try:
        with guarded(of_a_trial(account)):
            yield
    finally:
        if named is not None:
            os.environ[CURRENT_TEST] = named


@contextmanager
def joined(account: Account) -> Iterator[None]:
    """Call a falsifier inside. Afterwards its account says so if one of its threads can still compare, or ended in an
    error that nobody saw; and it takes no further comparison."""
    before, hook = set(threading.enumerate()), threading.excepthook

    def told(ended: threading.ExceptHookArgs) -> None:
        counted = ended.exc_type is trial.Falsified and account.falsified is not None
        if not counted and ended.exc_type is not SystemExit:
            account.spoil(f"a thread of the falsifier ended in {ended.exc_type.__name__}: {ended.exc_value}")

    threading.excepthook = told
    try:
        yield
    finally:
        threading.excepthook = hook
        account.over = True
        new = (thread for thread in threading.enumerate() if thread not in before)
        left = [thread.name for thread in new if not thread.daemon or thread.ident in account.voices]
        if left:
            account.spoil(f"the falsifier left a thread running that it must join: {min(left)}")


def unread(returned: Any) -> str:
    """Why what a falsifier returned shows that it was not tried as its author means; '' for None."""
    if returned is None:
        return ""
    if inspect.iscoroutine(returned):
        returned.close()  # or Python warns of it later, elsewhere
        return "the falsifier is an async function: it was called, and did not run"
    if inspect.isgenerator(returned) or inspect.isasyncgen(returned):
        return "the falsifier is a generator function: it was called, and did not run"
    return f"the falsifier returned {type(returned).__name__}, which nobody reads"


UNREAD_HINT = "hint: write a plain function that says each comparison through the trial, and returns nothing"

JUDGES = (trial.Trial, Account, trial, account, comparing, observation, outcome, patching, watch)
_MODULES = {module.__name__: module for module in (trial, account, comparing)}
_GENUINE = [(owner, name, value) for owner in JUDGES for name, value in vars(owner).items() if name[:2] != "__"]


def tampered() -> str:
    """What of the trial's own tools is no longer as it was imported, put right by now; '' if nothing."""
    found = ""
    for owner, name, value in _GENUINE:
        if vars(owner).get(name) is not value:
            found = found or f"{owner.__name__}.{name}"
            setattr(owner, name, value)
    for name in ("pv.trial", "pv.account", "pv.comparing"):
        if sys.modules.get(name) is not _MODULES[name]:
            found = found or name
            sys.modules[name] = _MODULES[name]
    return found
