"""Falsifiers that leave the process, or leave something behind in it."""

import os
import sys
import threading
from pathlib import Path

import pytest

from pv.outcome import Outcome
from tests.pv.stranger import Stranger
from tests.pv.trying import HONEST, Try, outcome

# ways out of the process

UNSEEN = "which would have ended the run unseen"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("exit()", "SystemExit: None"),
        ("import os; os._exit(0)", "the falsifier called os._exit(0), which would have ended the run unseen"),
        *(
            (f"{line}('/bin/true', {rest})", f"the falsifier called os.{ends}('/bin/true'), {UNSEEN}")
            for line, ends, rest in (
                ("import os; os.execv", "execv", "['true']"),
                ("import os; os.execl", "execv", "'true'"),
                ("import os; os.execve", "execve", "['true'], {}"),
                ("import os; os.execvp", "execv", "['true']"),
                ("import posix; posix.execv", "execv", "['true']"),
            )
        ),
        ("import posix; posix._exit(0)", f"the falsifier called os._exit(0), {UNSEEN}"),
        ("import pytest; pytest.exit('done', 0)", "_pytest.outcomes.Exit: done"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("raise type('Own', (BaseException,), {})('mine')", "subject.Own: mine"),
        ("(lambda f: f(f))(lambda f: f(f))", "RecursionError: maximum recursion depth exceeded"),
    ],
)  # fmt: skip
def test_a_falsifier_that_leaves_in_another_way_is_errored(try_: Try, line: str, message: str) -> None:
    for mutant in (None, "raised_limit"):
        assert outcome(try_, f"def f(trial):\n    trial.check(True, 'm')\n    {line}", mutant) == (
            Outcome.ERRORED,
            message,
        )
    assert sys.modules["subject"].limit == 3


@pytest.mark.parametrize(
    "line", ["import os; os._exit(0)", "raise GeneratorExit", "import pytest; pytest.exit('done', 0)"]
)
def test_a_module_that_leaves_while_it_is_imported_is_errored(try_: Try, line: str) -> None:
    found, message = outcome(try_, f"{line}\ndef f(trial): {HONEST}")
    assert found is Outcome.ERRORED
    assert "subject cannot be imported: " in message


def test_a_child_may_leave_as_children_do(try_: Try) -> None:
    body = "import os\ndef f(trial):\n    child = os.fork()\n    child or os._exit(3)\n"
    body += "    code = os.waitpid(child, 0)[1]\n"
    body += f"    trial.equal(os.waitstatus_to_exitcode(code), 3, 'code')\n    {HONEST}"
    assert outcome(try_, body) == (Outcome.SURVIVED, "")


def test_a_skip_that_is_swallowed_is_none_and_one_that_is_not_supports_nothing(try_: Try) -> None:
    swallowed = "try: pytest.skip('no')\n    except BaseException: pass"
    skips = (pytest.skip.Exception,)
    assert try_(f"import pytest\ndef f(trial):\n    {swallowed}", skips=skips).record.outcome is Outcome.ERRORED
    assert (
        try_("import pytest\npytest.skip('no', allow_module_level=True)", skips=skips).record.outcome is Outcome.SKIPPED
    )


LEAVING = {
    "atexit": "import atexit, os\natexit.register(lambda: os._exit(0))\n",
    "a program": "import os\ndef pytest_unconfigure(): os.execv('/bin/true', ['true'])\n",
    "unconfigure": "import os\ndef pytest_unconfigure(): os._exit(0)\n",
    "SystemExit": "import sys\ndef pytest_unconfigure(): sys.exit(0)\n",
    "import": "import os\nos._exit(0)\n",
    "main": "def pytest_cmdline_main(): return 0\n",
    "a failure": "import atexit, os\natexit.register(lambda: os._exit(7))\n",
}


@pytest.mark.parametrize("how", LEAVING)
def test_a_run_that_failed_leaves_with_its_exit_code(stranger: Stranger, how: str) -> None:
    stranger.write("conftest.py", LEAVING[how])
    stranger.change("subject.py", "MODULUS = 251", "MODULUS = 253")
    result = stranger.pytester.runpytest_subprocess("--falsify")
    assert result.ret == (7 if how == "a failure" else 1)


def test_a_run_that_holds_may_leave_as_it_likes(stranger: Stranger) -> None:
    stranger.write("conftest.py", LEAVING["a program"])
    assert stranger.pytester.runpytest_subprocess("--falsify").ret == 0


def test_the_guards_of_a_run_inside_of_another_are_gone_when_it_is(stranger: Stranger) -> None:
    before = os._exit, os.execv, os.execve
    stranger.change("subject.py", "MODULUS = 251", "MODULUS = 253")
    assert stranger.run("--falsify").ret == 1
    assert (os._exit, os.execv, os.execve) == before


# threads


def in_thread(line: str, end: str) -> str:
    return f"""
import threading, time
gate = threading.Event()
def late(trial):
    {line}
def f(trial):
    trial.at_most(limit, 3, 'limit')
    thread = threading.Thread(target=late, args=(trial,), name='mine')
    thread.start()
    {end}
"""


def test_what_a_thread_compares_counts_and_what_breaks_in_it_is_seen(try_: Try) -> None:
    record = try_(in_thread("trial.check(True, 'm')", "thread.join()")).record
    assert (record.outcome, record.comparisons) == (Outcome.SURVIVED, 2)
    assert outcome(try_, in_thread("trial.check(False, 'm')", "thread.join()")) == (Outcome.FALSIFIED, "m")
    for line, what in (("raise ValueError('gone')", "ValueError: gone"), ("raise Falsified('x')", "Falsified: x")):
        message = f"a thread of the falsifier ended in {what}"
        assert outcome(try_, in_thread(line, "thread.join()")) == (Outcome.ERRORED, message)


@pytest.mark.parametrize("daemon", [False, True])
def test_a_thread_that_is_left_running_is_errored(try_: Try, daemon: bool) -> None:
    end = "while trial.comparisons < 2: time.sleep(0.001)"
    body = in_thread("trial.check(True, 'm'); gate.wait(9)", end).replace(
        "name='mine'", f"name='mine', daemon={daemon}"
    )
    try:
        message = "the falsifier left a thread running that it must join: mine"
        assert outcome(try_, body) == (Outcome.ERRORED, message)
    finally:
        sys.modules["subject"].gate.set()
        for thread in threading.enumerate():
            if thread.name == "mine":
                thread.join()


def test_a_trial_that_is_over_takes_no_comparison(try_: Try) -> None:
    body = f"kept = []\ndef f(trial):\n    kept.append(trial)\n    {HONEST}"
    assert outcome(try_, body) == (Outcome.SURVIVED, "")
    with pytest.raises(RuntimeError, match=r"^this trial is over: what is compared now is compared for nobody$"):
        sys.modules["subject"].kept[0].check(True, "m")


def test_an_error_whose_text_cannot_be_had_is_told_all_the_same(try_: Try) -> None:
    body = "class Mute(Falsified):\n    def __str__(self): raise ValueError\ndef f(trial): raise Mute"
    assert outcome(try_, body) == (Outcome.FALSIFIED, "a Mute whose text raises ValueError")


def test_the_guards_are_gone_when_the_trial_is(try_: Try, project: Path) -> None:
    before = os._exit, threading.excepthook
    outcome(try_, f"def f(trial): {HONEST}")
    outcome(try_, "def f(trial): raise GeneratorExit")
    assert (os._exit, threading.excepthook) == before
