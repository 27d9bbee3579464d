"""Tests of benchmarks.quality: the figures on made-up logits, and what the engine's rounding may cost."""

import numpy as np
import pytest

from benchmarks.quality import Text, measure, quality
from engine.errors import EngineError
from engine.registry import locate


def text(rng, positions=200, vocab=50, noise=0.0, spread=1.0):
    """Random logits; llama.cpp's are the exact ones with noise, the fast path's with other noise."""
    exact = rng.standard_normal((positions, vocab)) * spread
    fast, llama = (exact + noise * rng.standard_normal(exact.shape) for _ in range(2))
    return Text(fast, llama, exact)


def test_errors_are_pooled_over_all_texts():
    exact = np.array([[3.0, 4.0]])
    one, two = np.array([[3.0, 5.0]]), np.array([[5.0, 4.0]])
    texts = [Text(one, exact, exact), Text(exact, two, exact)]
    found = quality(texts)
    assert (found.fast_nmse, found.llama_nmse) == (1 / 50, 4 / 50)
    assert (found.positions, found.texts) == (2, 2)


def test_differences_are_counted_by_position_and_by_text():
    exact = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 0.0, 5.0]])
    swapped = exact.copy()
    swapped[1] = [0.0, 1.0, 2.0]
    found = quality([Text(swapped, exact, exact), Text(exact, exact, exact), Text(exact, swapped, exact)])
    assert (found.differing, found.differing_texts) == (2, 2)
    assert (found.exact_differing, found.exact_differing_texts) == (1, 1)
    assert found.margins == (1.0, 1.0)


def test_what_noise_changes_is_a_near_tie():
    found = quality([text(np.random.default_rng(1), noise=0.05)])
    assert found.differing > 0
    assert found.beyond_a_tie == ()
    assert 0.05 < found.deviation < 0.2


def test_a_token_that_noise_cannot_explain_is_no_near_tie():
    one = text(np.random.default_rng(2), noise=0.01, spread=3.0)
    worst = one.exact[7].argmin()
    one.fast[7, worst] = one.fast[7].max() + 0.001
    found = quality([one])
    assert found.beyond_a_tie == (one.exact[7].max() - one.exact[7].min(),)


@pytest.mark.parametrize("texts", [[], [Text(*3 * [np.zeros((0, 5))])]])
def test_nothing_to_compare_is_an_error(texts):
    with pytest.raises(ValueError, match="no position to compare"):
        quality(texts)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["tiny-qwen2", pytest.param("smollm2-135m", marks=pytest.mark.needs_model)])
def test_rounding_costs_what_it_may(name):
    """The error is below a thousandth; where the likeliest token is not llama.cpp's, noise explains it."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra `oracles`)")
    try:
        file = locate(name)
    except EngineError as error:
        pytest.skip(str(error))
    found = quality(measure(file))
    assert found.texts == 20
    assert found.positions > 400
    assert found.fast_nmse <= 1e-3
    assert found.fast_nmse <= 1.1 * found.llama_nmse
    assert found.beyond_a_tie == ()
    assert found.differing <= 1.5 * found.exact_differing + 5  # exact arithmetic differs from llama.cpp about as often
