"""Tests of engine.synth_blocks: what the drawn bytes mean, and that they are the same everywhere."""

import hashlib
import math

import numpy as np
import pytest

from engine.formats import FORMATS, dequantise
from engine.synth_blocks import CHUNK, rows, vector

ALL = list(FORMATS.values())


def drawn(fmt, count, columns, key=(3, 4)):
    return np.concatenate(list(rows(key, fmt, count, columns)))


@pytest.mark.parametrize("fmt", ALL, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("columns", [512, 18944])
def test_weights_have_mean_0_and_the_size_that_keeps_a_product_s_size(fmt, columns):
    weights = dequantise(drawn(fmt, 200000 // columns * 4, columns), fmt).astype(np.float64) * math.sqrt(columns)
    assert np.isfinite(weights).all()
    assert abs(weights.mean()) < 0.03
    assert weights.std() == pytest.approx(1, abs=0.03)
    assert np.abs(weights).max() < 8


@pytest.mark.parametrize("fmt", ALL, ids=lambda fmt: fmt.name)
def test_no_two_rows_are_alike(fmt):
    raw = drawn(fmt, 1000, 512)
    assert len({row.tobytes() for row in raw}) == 1000


@pytest.mark.parametrize("fmt", ALL, ids=lambda fmt: fmt.name)
def test_a_matrix_comes_in_pieces_of_whole_rows_that_all_differ(fmt):
    columns = 2**15
    nbytes = columns // fmt.block * fmt.nbytes
    count = 2 * (CHUNK // nbytes) + 1
    pieces = list(rows((0,), fmt, count, columns))
    assert [piece.shape for piece in pieces] == [(CHUNK // nbytes, nbytes)] * 2 + [(1, nbytes)]
    assert len({piece[0].tobytes() for piece in pieces}) == 3


def test_a_row_larger_than_a_piece_comes_alone():
    assert [piece.shape for piece in rows((0,), FORMATS[0], 2, CHUNK)] == [(1, 4 * CHUNK)] * 2


@pytest.mark.parametrize("fmt", ALL, ids=lambda fmt: fmt.name)
def test_the_key_governs_the_bytes(fmt):
    assert np.array_equal(drawn(fmt, 3, 512), drawn(fmt, 3, 512))
    assert not np.array_equal(drawn(fmt, 3, 512), drawn(fmt, 3, 512, key=(3, 5)))


def test_the_bytes_are_those_that_every_machine_and_every_numpy_draws():
    digest = hashlib.sha256()
    for fmt in ALL:
        digest.update(drawn(fmt, 5, 768).tobytes())
    digest.update(vector((1, 2), 100, around=1.0, within=0.1).tobytes())
    assert digest.hexdigest() == "414382bd9f48e5943bb432ae8042437aa472ad4020afbf9e62e61294cdc562b6"


def test_a_vector_is_spread_around_its_middle():
    values = vector((7,), 10000, around=1.0, within=0.1)
    assert (values.dtype, values.shape) == (np.float32, (10000,))
    assert 0.9 <= values.min() < 0.901
    assert 1.099 < values.max() <= 1.1
    assert values.mean() == pytest.approx(1, abs=0.002)
