"""Fixtures of the tests of the kernels."""

import numba
import pytest


@pytest.fixture(autouse=True)
def _same_number_of_threads():
    before = numba.get_num_threads()
    yield
    numba.set_num_threads(before)
