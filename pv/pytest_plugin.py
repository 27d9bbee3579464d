"""pytest plugin of pv: `pytest --falsify` tries to break what the contracts promise, `--record` keeps what was seen.

pytest loads this module in every run, so it imports nothing but pytest; all else waits for `--falsify`.
"""

import argparse
import os
from contextlib import ExitStack

import pytest

MARKERS = (
    "falsify: a falsification trial of a contract",
    "mutant: a trial with a planted defect, which its falsifier must notice",
    "needs_model: needs a model file; skipped with the reason when it is absent",
    "oracle: compares with an independent implementation",
)
NEED_FALSIFY = ("--record", "--falsify-strict", "--falsify-seed", "--falsify-evidence")


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


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Watch what conftests import, for a trial may reach it; and give numba an empty cache in a recording run, for
    evidence is about today's code.

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


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if not config.getoption("--falsify"):
        for option in NEED_FALSIFY:
            value = config.getoption(option)
            if value is not None and value is not False:
                raise pytest.UsageError(f"{option} does nothing without --falsify")
        return
    if config.getoption("--falsify-evidence") and not config.getoption("--record"):
        raise pytest.UsageError("--falsify-evidence does nothing without --record")
    if config.getoption("--record") and config.getoption("--falsify-seed") is not None:
        raise pytest.UsageError(
            "--falsify-seed does not go with --record: evidence is what came of each trial's own seed, and of a seed "
            "that was picked nobody knows how many were tried before it"
        )
    from pv.errors import PvError
    from pv.pytest_session import Falsification

    try:
        config.pluginmanager.register(Falsification(config), "pv-falsification")
    except PvError as error:
        raise pytest.UsageError(str(error)) from None
