"""Tests of products with quantised weights, bit for bit against the integer model: one token (dots), many (tiles)."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import kernels
from engine.buffers import Product
from engine.kernels import dots, tiles
from falsifiers import on_arrays
from falsifiers.synthetic import NAMED, random_weight
from tests.engine.kernels.cases import (
    BROKEN,
    FLOATS,
    QUANTISED,
    SCALED,
    SEEDS,
    Guarded,
    activations,
    call,
    f32,
    model_product,
    model_product_with_rests,
    same_bits,
    wrong_extremes,
)


def joint(x, *weights, rests=()):
    """The products of several matrices in one call: their columns one after the other."""
    product = Product(*weights, rests=rests)
    rows = on_arrays.filled(x, product.kinds, rests=product.rests)
    out = np.full((len(x), product.width), np.nan, f32)
    kernels.products(product.jobs, rows.addresses, rows.pitch, out)
    return np.split(out, np.cumsum([weight.rows for weight in weights])[:-1], axis=1)


@settings(max_examples=25)
@given(
    seed=SEEDS,
    T=st.integers(1, 9),
    rows=st.integers(1, 18),
    blocks=st.integers(1, 3),
    kind=st.sampled_from([*SCALED, *BROKEN]),
    any_bytes=st.booleans(),
)
@pytest.mark.parametrize("name", QUANTISED)
def test_every_quantised_format_has_the_bits_of_the_integer_model(name, seed, T, rows, blocks, kind, any_bytes):
    rng, fmt = np.random.default_rng(seed), NAMED[name]
    weight = random_weight(rng, name, rows, blocks * fmt.block, fmt)
    if any_bytes:  # scales that are huge, NaN or infinite as well
        weight.raw[:] = rng.integers(0, 256, weight.raw.shape, dtype=np.uint8)
    x = activations(rng, T, blocks * fmt.block, kind)
    got = on_arrays.matmul(x, weight)
    same_bits(got, model_product(x, weight))
    if kind in BROKEN:
        assert np.isnan(got[~np.isfinite(x).all(axis=1)]).all()


@settings(max_examples=25)
@given(
    seed=SEEDS,
    T=st.integers(1, 9),
    rows=st.integers(1, 18),
    blocks=st.integers(1, 3),
    kind=st.sampled_from([*SCALED, *BROKEN]),
)
@pytest.mark.parametrize("name", QUANTISED)
def test_with_rests_every_quantised_format_has_the_bits_of_the_integer_model(name, seed, T, rows, blocks, kind):
    rng, fmt = np.random.default_rng(seed), NAMED[name]
    weight = random_weight(rng, name, rows, blocks * fmt.block, fmt)
    x = activations(rng, T, blocks * fmt.block, kind)
    got = on_arrays.matmul(x, weight, rests=True)
    same_bits(got, model_product_with_rests(x, weight))
    if kind in BROKEN:
        assert np.isnan(got[~np.isfinite(x).all(axis=1)]).all()


@pytest.mark.parametrize("tokens", [1, 6])
def test_only_the_matrices_that_ask_for_rests_meet_them(tokens):
    rng = np.random.default_rng(18)
    weights = [random_weight(rng, name, 65, 512, NAMED[name]) for name in NAMED]
    x = rng.standard_normal((tokens, 512)).astype(f32)
    rests = weights[1::2]
    for got, weight in zip(joint(x, *weights, rests=rests), weights, strict=True):
        wanted = weight in rests and weight.format.name in QUANTISED
        want = model_product_with_rests(x, weight) if wanted else on_arrays.matmul(x, weight)
        same_bits(np.ascontiguousarray(got), want)


@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("name", QUANTISED)
def test_any_number_of_rows_fits_the_tiles(name, tokens):
    """A task has 64 rows, a tile 16, a dot product 8."""
    rng, fmt = np.random.default_rng(tokens), NAMED[name]
    for rows in (*range(1, 18), 63, 64, 65, 130):
        weight = random_weight(rng, name, rows, fmt.block, fmt)
        x = rng.standard_normal((tokens, fmt.block), dtype=f32)
        same_bits(on_arrays.matmul(x, weight), model_product(x, weight))
        same_bits(on_arrays.matmul(x, weight, rests=True), model_product_with_rests(x, weight))


@pytest.mark.parametrize("name", QUANTISED)
def test_the_largest_codes_and_activations_do_not_overflow_an_integer(name):
    assert wrong_extremes(name) == []


@pytest.mark.parametrize("name", [*NAMED])
def test_a_product_is_close_to_that_of_the_dequantised_weights(name):
    rng = np.random.default_rng(11)
    weight = random_weight(rng, name, 64, 512, NAMED[name])
    x = rng.standard_normal((5, 512)).astype(f32)
    want = x.astype(np.float64) @ weight.dequantised().astype(np.float64).T
    error = np.linalg.norm(on_arrays.matmul(x, weight) - want) / np.linalg.norm(want)
    assert error <= (1e-6 if name in FLOATS else 0.01)
    finer = np.linalg.norm(on_arrays.matmul(x, weight, rests=True) - want) / np.linalg.norm(want)
    assert finer == error if name in FLOATS else finer <= error / 100


@pytest.mark.parametrize("name", [*NAMED])
def test_one_token_alone_has_the_bits_that_it_has_among_others(name):
    rng = np.random.default_rng(12)
    weight = random_weight(rng, name, 33, 512, NAMED[name])
    x = rng.standard_normal((9, 512)).astype(f32)
    together = on_arrays.matmul(x, weight)
    for t in range(9):
        same_bits(on_arrays.matmul(x[t : t + 1], weight), together[t : t + 1])


@pytest.mark.parametrize("tokens", [1, 6])
def test_weights_that_share_their_activations_give_what_each_gives_alone(tokens):
    """A task has 64 rows of one job: jobs of 1, 64, 65 and 128 rows are 1, 1, 2 and 2 tasks."""
    rng = np.random.default_rng(13)
    weights = [
        random_weight(rng, name, rows, 256, NAMED[name])
        for rows in (65, 1, 128, 64)
        for name in ("Q4_K", "F16", "Q6_K", "Q8_0", "Q5_K", "Q4_0")
    ]
    x = rng.standard_normal((tokens, 256)).astype(f32)
    for got, weight in zip(joint(x, *weights), weights, strict=True):
        same_bits(np.ascontiguousarray(got), on_arrays.matmul(x, weight))


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="this process may use one thread only")
@pytest.mark.parametrize("tokens", [1, 6])
def test_the_number_of_threads_changes_no_bit(tokens):
    rng = np.random.default_rng(14)
    x = rng.standard_normal((tokens, 512)).astype(f32)
    weights = [random_weight(rng, name, 101, 512, NAMED[name]) for name in NAMED]

    def results(threads):
        numba.set_num_threads(threads)
        return joint(x, *weights)

    alone = results(1)
    for threads in range(2, numba.config.NUMBA_NUM_THREADS + 1):
        for got, want in zip(results(threads), alone, strict=True):
            same_bits(np.ascontiguousarray(got), np.ascontiguousarray(want))


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize("tokens", [1, 2, 7])
@pytest.mark.parametrize("name", [*NAMED])
def test_nothing_is_written_beside_the_columns_of_a_job(name, tokens):
    weight = random_weight(np.random.default_rng(15), name, 13, 256, NAMED[name])
    x = np.random.default_rng(16).standard_normal((tokens, 256), dtype=f32)
    product = Product(weight)
    rows = on_arrays.filled(x, product.kinds)
    product.jobs[0, kernels.COLUMN] = 2
    out = Guarded((tokens, 17), f32)
    before = out.array.copy()
    kernels.products(product.jobs, rows.addresses, rows.pitch, out.array)
    same_bits(np.ascontiguousarray(out.array[:, 2:15]), on_arrays.matmul(x, weight))
    assert np.array_equal(out.array[:, [0, 1, 15, 16]].view(np.uint32), before[:, [0, 1, 15, 16]].view(np.uint32))
    assert out.intact()


@pytest.mark.parametrize("name", QUANTISED)
def test_rows_beyond_the_last_are_not_read_and_scratch_memory_suffices(name):
    """They are computed as the last again: the NaN scales that lie there would show."""
    rng, fmt = np.random.default_rng(17), NAMED[name]
    whole = random_weight(rng, name, 16, 2 * fmt.block, fmt)
    x = rng.standard_normal((4, 2 * fmt.block), dtype=f32)
    kind = kernels.BY_32 if fmt.block == 32 else kernels.BY_256
    some, one = on_arrays.filled(x, kind), on_arrays.filled(x[:1], kind)
    for last in (0, 2, 7, 14):
        raw = whole.raw.copy()
        raw[last + 1 :] = 0xFF
        want = model_product(x, whole)[:, np.minimum(np.arange(16), last)]
        out, scratch = Guarded((4, 16), f32), Guarded((tiles.SCRATCH,), np.uint8)
        call(tiles.TILES[name], raw, raw.strides[0], last, 2, 4, *read_of(some, name), out.array, scratch.array)
        same_bits(out.array, want)
        assert out.intact()
        assert scratch.intact()
        out = Guarded((last + 1,), f32)
        call(dots.DOTS[name], raw, raw.strides[0], last + 1, 2, *read_of(one, name), out.array)
        same_bits(out.array, want[0, : last + 1].copy())
        assert out.intact()


def read_of(rows, name):
    """What the kernels of a format read of activations: integers, scales, sums."""
    if NAMED[name].block == 32:
        return rows.q32, rows.scale32, rows.sums32
    return rows.q256, rows.scale256, rows.sums16 if name == "Q6_K" else rows.sums256


@pytest.mark.parametrize(("tokens", "laid_out"), [(1, 1), (2, 4), (3, 4), (4, 4), (5, 8), (8, 8), (257, 260)])
def test_activations_are_laid_out_for_one_token_or_for_fours(tokens, laid_out):
    assert kernels.padded(tokens) == laid_out


def test_a_layout_of_activations_has_a_column_for_every_address():
    rows = on_arrays.filled(np.ones((3, 512), f32), kernels.BY_32 | kernels.BY_256)
    named = {
        kernels.X: rows.x, kernels.Q32: rows.q32, kernels.SCALE32: rows.scale32, kernels.SUMS32: rows.sums32,
        kernels.Q256: rows.q256, kernels.SCALE256: rows.scale256, kernels.SUMS16: rows.sums16,
        kernels.SUMS256: rows.sums256,
    }  # fmt: skip
    assert {index: on_arrays.address(part) for index, part in named.items()} == dict(enumerate(rows.addresses[0]))
