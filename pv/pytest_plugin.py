"""pytest plugin of pv: `pytest --falsify` tries to break what the contracts promise, `--record` keeps what was seen.

pytest loads this module in every run, so it imports nothing but pytest; all else waits for `--falsify`.
"""

import argparse
import os
import sys
import weakref
from collections.abc import Generator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

MARKERS = (
    "falsify: a falsification trial of a contract",
    "mutant: a trial with a planted defect, which its falsifier must notice",
    "needs_model: needs a model file; skipped with the reason when it is absent",
    "oracle: compares with an independent implementation",
)
NEED_FALSIFY = ("--record", "--falsify-strict", "--falsify-seed", "--falsify-evidence")


IDLE = {
    "--collect-only": "collectonly",
    "--help": "help",
    "--version": "version",
    "--markers": "markers",
    "--fixtures": "showfixtures",
    "--fixtures-per-test": "show_fixtures_per_test",
    "--cache-show": "cacheshow",
}
"""Options by which pytest runs no test and ends with 0, and where it keeps them. --setup-plan fails by itself."""


class Options(NamedTuple):
    """What the command line and addopts ask for: no hook of a conftest.py changes it afterwards.

    idle  the option by which this run makes no trial, "" if it is to make them
    """

    falsify: bool
    record: bool
    strict: bool
    seed: int | None
    evidence: str | None
    idle: str


_options: "weakref.WeakKeyDictionary[pytest.Config, Options]" = weakref.WeakKeyDictionary()
_kept: list[ExitStack] = []  # guards that are never taken away
_runs: "weakref.WeakKeyDictionary[pytest.Config, Any]" = weakref.WeakKeyDictionary()


def chosen(config: pytest.Config) -> Options:
    """The options of a run, as they were before any conftest.py was loaded; a worker's are those of its controller."""
    if config not in _options:
        sent = getattr(config, "workerinput", {}).get("pv_options")
        _options[config] = Options(*sent) if sent else _parsed(config.option)
    return _options[config]


def _parsed(options: argparse.Namespace) -> Options:
    return Options(
        falsify=options.falsify,
        record=options.record,
        strict=options.falsify_strict,
        seed=options.falsify_seed,
        evidence=options.falsify_evidence,
        idle=_idle(options),
    )


def _idle(options: argparse.Namespace) -> str:
    """The option by which pytest shows something in place of running tests; one --version changes nothing."""
    found = {name: getattr(options, kept, None) for name, kept in IDLE.items()}
    return next((name for name, value in found.items() if value and (name, value) != ("--version", 1)), "")


def _refuse_idle(config: pytest.Config, options: Options) -> None:
    """UsageError for a strict run that makes no trial, and for one that is kept from it by addopts."""
    if not options.falsify or not options.idle:
        return
    if options.strict:
        raise pytest.UsageError(
            f"--falsify-strict demands all trials, and {options.idle} makes none: leave one of them out"
        )
    typed = config._parser.parse_known_args([*map(str, config.invocation_params.args)])
    if not _idle(typed):
        raise pytest.UsageError(
            f"{options.idle} in addopts or PYTEST_ADDOPTS keeps --falsify from making any trial: take it out there, "
            "and type it where it is meant"
        )


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("falsify", "falsification of contracts (pv)")
    group.addoption("--falsify", action="store_true", help="collect contracts and run their falsifiers")
    group.addoption(
        "--record",
        action="store_true",
        help="with --falsify: keep what was observed as evidence; a promise that holds is tried twice with the same "
        "seed, and is FLAKY if anything comes out differently",
    )
    group.addoption(
        "--falsify-strict", action="store_true", help="with --falsify: a trial that is skipped or taken out fails"
    )
    group.addoption(
        "--falsify-seed", type=_seed, metavar="N", help="with --falsify, without --record: the seed of every trial"
    )
    group.addoption("--falsify-evidence", metavar="DIR", help="with --record: keep the evidence in DIR instead")


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**32):
        raise argparse.ArgumentTypeError(f"a seed is a whole number from 0 to {2**32 - 1}, not {text!r}")
    return int(text)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, Any, Any]:
    """What is asked for is taken down before any conftest.py can change it; the exit status is told after all of them.

    What conftests import is watched, for a trial may reach it. Evidence is about today's code, so a recording run gives
    numba an empty cache.

    Set before any conftest can import numba, and inherited by xdist's workers and by every process that a trial starts.
    """
    options = early_config.known_args_namespace
    if getattr(options, "falsify", False):
        from pv.watch import watching_between

        between = ExitStack()
        between.enter_context(watching_between())
        early_config.add_cleanup(between.close)
    if getattr(options, "record", False) and "PYTEST_XDIST_WORKER" not in os.environ:
        from pv.compiled import empty_cache

        early_config.add_cleanup(empty_cache())
    if "PYTEST_XDIST_WORKER" not in os.environ:
        _options[early_config] = _parsed(options)
        _refuse_idle(early_config, _options[early_config])
        if _options[early_config].falsify and not _options[early_config].idle:
            _guard_exits(early_config)
    loaded = yield
    early_config.pluginmanager.register(LastWord(), "pv-last-word")
    return loaded


def _guard_exits(config: pytest.Config) -> None:
    """From here on, no way out leads past what the run comes to: until the process ends, where this run is its own."""
    from _pytest.main import wrap_session

    from pv.guards_exits import guarded, of_a_run

    guarding = ExitStack()
    guarding.enter_context(guarded(of_a_run(lambda: _meant(config))))
    frame = sys._getframe().f_back
    while frame and frame.f_code is not wrap_session.__code__:
        frame = frame.f_back
    if frame:  # a run inside of a test of another
        config.add_cleanup(guarding.close)
    else:
        _kept.append(guarding)


def _meant(config: pytest.Config) -> int:
    """The exit code that a run comes to; of one that has not ended, that of a failure."""
    run = _runs.get(config)
    return int(pytest.ExitCode.TESTS_FAILED if run is None or run.exitstatus is None else run.exitstatus)


class LastWord:
    """Registered after the conftest.py files that pytest starts with, so that this wraps all that they do."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> Generator[None, Any, Any]:
        """A run that failed ends with its exit status, whatever a hook made of it in the meantime."""
        status = yield
        if not chosen(config).falsify or chosen(config).idle or status != pytest.ExitCode.OK:
            return status
        meant = _meant(config)
        if meant != status:
            what = "a hook of a plugin or a conftest.py ended this run with exit code 0"
            sys.stdout.write(f"FAILED: {what}; it is {int(meant)}\n")
        return meant

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_unconfigure(self, config: pytest.Config) -> Generator[None, Any, Any]:
        """No hook that raises SystemExit at the very end makes another exit code of a run that failed."""
        try:
            return (yield)
        except SystemExit as error:
            if not chosen(config).falsify or chosen(config).idle or error.code:
                raise
            raise SystemExit(_meant(config)) from None


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    options = chosen(config)
    if not options.falsify:
        for option, value in zip(NEED_FALSIFY, options[1:5], strict=True):
            if value is not None and value is not False:
                raise pytest.UsageError(f"{option} does nothing without --falsify")
        return
    if options.evidence and not options.record:
        raise pytest.UsageError("--falsify-evidence does nothing without --record")
    if options.record and options.seed is not None:
        raise pytest.UsageError(
            "--falsify-seed does not go with --record: evidence is what came of each trial's own seed, and of a seed "
            "that was picked nobody knows how many were tried before it"
        )
    from pv.errors import PvError
    from pv.pytest_session import Falsification

    try:
        _runs[config] = run = Falsification(config)
        config.pluginmanager.register(run, "pv-falsification")
    except PvError as error:
        raise pytest.UsageError(str(error)) from None
