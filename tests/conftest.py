"""Fixtures and hooks of the whole test suite."""

import contextlib
import os

import pytest

# `-n` gives each core a worker, and its commands run there too: what waits for a core must not burn another's
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

pytest_plugins = ["pytester"]

# a test measures: what another one found, with a rule patched, is nothing to it
os.environ["PV_CACHE_DIR"] = os.devnull

with contextlib.suppress(ImportError):  # `pytest --falsify` reads this file too, and needs no hypothesis
    from hypothesis import HealthCheck, settings

    # no test may fail because a machine is busy
    settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("house")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With PV_NO_SKIPS a skip fails: where the oracles are installed, a comparison that was not made is not green."""
    report = yield
    if report.skipped and os.environ.get("PV_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"skipped, although PV_NO_SKIPS is set: {report.longrepr}"
    return report
