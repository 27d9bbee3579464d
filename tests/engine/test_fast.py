"""Tests of engine.fast, against the reference path and against itself."""

from dataclasses import replace

import numba
import numpy as np
import pytest

from engine import fast
from engine.errors import EngineError
from engine.fast import FastPath
from engine.reference import ReferencePath
from engine.stages import ORDER
from engine.variants import KV_CACHES, chosen
from falsifiers.on_arrays import cached
from falsifiers.synthetic import NAMED, random_model, random_weight
from tests.engine.widths import WIDTHS, of_width

TOKENS = [7, 300, 21, 7, 128, 42]
ARCHITECTURES = ("qwen2", "llama")


@pytest.fixture(scope="session", params=ARCHITECTURES)
def model(request):
    return random_model(np.random.default_rng(32), request.param)


def opened(model, capacity=16, threads=1):
    return FastPath(model, capacity=capacity, threads=threads)


def traced(path, tokens):
    seen = []
    logits = path.forward(tokens, tap=lambda stage, layer, array: seen.append((stage, layer, array.copy())))
    return logits, seen


def error(got, want):
    """Norm of the difference over the norm of `want`, of what is finite in both."""
    shown = np.isfinite(want)
    assert np.array_equal(np.isfinite(got), shown)
    return float(np.linalg.norm(got[shown] - want[shown]) / np.linalg.norm(want[shown]))


def test_every_stage_agrees_with_the_reference_path_in_order_shape_and_values(model):
    _, fast = traced(opened(model), TOKENS)
    _, want = traced(ReferencePath(model), TOKENS)
    assert [(stage, layer, a.shape) for stage, layer, a in fast] == [
        (stage, layer, a.shape) for stage, layer, a in want
    ]
    assert [ORDER[stage] for stage, layer, _ in fast if layer in (0, None)] == list(range(20))
    for (stage, layer, a), (_, _, b) in zip(fast, want, strict=True):
        assert a.dtype == np.float32
        assert a.flags.c_contiguous
        assert error(a, b) <= (0.0 if stage == "embedding" else 0.05), (stage, layer)


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
def test_with_float_weights_both_paths_agree_to_float32(model, name):
    """No rounding of activations hides a defect here."""
    rng = np.random.default_rng(33)

    def plain(weight):
        return random_weight(rng, weight.name, weight.rows, weight.columns, NAMED[name])

    matrices = ("q", "k", "v", "attn_out", "gate", "up", "down")
    layers = tuple(replace(layer, **{m: plain(getattr(layer, m)) for m in matrices}) for layer in model.layers)
    model = replace(model, layers=layers, embedding=plain(model.embedding), output=plain(model.output))
    _, fast = traced(opened(model), TOKENS)
    _, want = traced(ReferencePath(model), TOKENS)
    for (stage, layer, a), (_, _, b) in zip(fast, want, strict=True):
        assert error(a, b) <= 5e-6, (stage, layer)


@pytest.mark.parametrize("widths", WIDTHS, ids=lambda widths: str(widths["hidden"]))
def test_widths_that_fill_no_vector_give_what_the_reference_path_gives(model, widths):
    """Rows, heads and the halves of gate and up are continued with zeros, of which no stage tells."""
    odd = of_width(model, np.random.default_rng(34), **widths)
    path = opened(odd)
    _, got = traced(path, TOKENS)
    _, want = traced(ReferencePath(odd), TOKENS)
    assert [(stage, layer, a.shape) for stage, layer, a in got] == [(stage, layer, a.shape) for stage, layer, a in want]
    for (stage, layer, a), (_, _, b) in zip(got, want, strict=True):
        assert error(a, b) <= 1e-5, (stage, layer)
    assert path.forward([3]).tobytes() == opened(odd).forward([*TOKENS, 3]).tobytes()


def test_a_tap_changes_nothing(model):
    assert traced(opened(model), TOKENS)[0].tobytes() == opened(model).forward(TOKENS).tobytes()


@pytest.mark.parametrize("cuts", [(1,), (3,), (5,), (1, 2, 3, 4, 5)])
def test_chunks_give_the_bits_of_the_whole(model, cuts):
    whole, rows = traced(opened(model), TOKENS)
    path, pieces = opened(model), {}
    for start, stop in zip((0, *cuts), (*cuts, len(TOKENS)), strict=True):
        assert path.position == start
        logits, seen = traced(path, TOKENS[start:stop])
        for stage, layer, array in seen:
            pieces.setdefault((stage, layer), []).append(array)
    assert path.position == len(TOKENS)
    assert logits.tobytes() == whole.tobytes()
    for stage, layer, want in rows:
        if stage not in ("lm_head", "attn_scores", "attn_softmax"):  # these are as wide as what has been seen
            assert np.concatenate(pieces[stage, layer]).tobytes() == want.tobytes(), (stage, layer)


@pytest.mark.parametrize("size", [1, 4, 5])
def test_a_long_prompt_is_computed_in_chunks_with_the_bits_of_the_whole(model, monkeypatch, size):
    whole, _ = traced(opened(model), TOKENS)
    monkeypatch.setattr(fast, "CHUNK", size)
    path, counts = opened(model), []
    through = FastPath._through
    monkeypatch.setattr(FastPath, "_through", lambda self, t, tap: counts.append(len(t)) or through(self, t, tap))
    assert path.forward(TOKENS).tobytes() == whole.tobytes()
    assert counts == [size] * (6 // size) + [6 % size] * (6 % size > 0)
    assert path.position == 6


@pytest.mark.parametrize("size", [1, 4, 5, 6, 9])
def test_a_traced_prompt_can_be_computed_in_chunks_too(model, size):
    whole, rows = traced(opened(model), TOKENS)
    pieces = {}
    path = opened(model)
    logits = path.forward(TOKENS, lambda s, layer, array: pieces.setdefault((s, layer), []).append(array.copy()), size)
    assert logits.tobytes() == whole.tobytes()
    assert [len(array) for array in pieces["ffn_out", 1]] == [size] * (6 // size) + [6 % size] * (6 % size > 0)
    for stage, layer, want in rows:
        if stage not in ("attn_scores", "attn_softmax"):  # as wide as what has been seen
            assert np.concatenate(pieces[stage, layer]).tobytes() == want.tobytes(), (stage, layer)


def test_arrays_are_kept_for_one_token_and_for_the_last_other_number(model):
    path = opened(model, capacity=20)
    one = path.buffers(1)
    three = path.buffers(3)
    assert path.buffers(1) is one
    assert path.buffers(3) is three
    path.buffers(4)
    assert path.buffers(1) is one
    assert path.buffers(3) is not three


def test_later_tokens_do_not_change_one_bit_of_earlier_rows(model):
    _, first = traced(opened(model), TOKENS)
    _, second = traced(opened(model), [*TOKENS[:4], 99, 5])
    for (stage, _, a), (_, _, b) in zip(first, second, strict=True):
        if stage != "lm_head":
            assert a[:4].tobytes() == b[:4].tobytes()
            assert a[4:].tobytes() != b[4:].tobytes()


def test_the_capacity_of_the_cache_changes_no_bit(model):
    assert opened(model, capacity=6).forward(TOKENS).tobytes() == opened(model, capacity=50).forward(TOKENS).tobytes()


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="this process may use one thread only")
def test_the_number_of_threads_changes_no_bit(model):
    assert opened(model, threads=1).forward(TOKENS).tobytes() == opened(model, threads=2).forward(TOKENS).tobytes()


def test_logits_of_one_call_survive_the_next(model):
    path = opened(model)
    first = path.forward(TOKENS)
    kept = first.copy()
    path.forward([9])
    assert np.array_equal(first, kept)


def test_the_cache_does_not_overflow(model):
    path = opened(model, capacity=7)
    path.forward(TOKENS)
    with pytest.raises(ValueError, match=r"^6 \+ 2 tokens do not fit a cache of 7$"):
        path.forward([1, 2])
    path.forward([1])
    with pytest.raises(ValueError, match=r"^7 \+ 1 tokens do not fit a cache of 7$"):
        path.forward([1])


def test_a_token_that_the_vocabulary_lacks_is_refused(model):
    path = opened(model)
    path.forward(TOKENS)
    with pytest.raises(IndexError):
        path.forward([model.config.vocab])
    assert path.position == len(TOKENS)
    assert path.forward([9]).tobytes() == opened(model).forward([*TOKENS, 9]).tobytes()


@pytest.mark.parametrize("threads", [0, -1, 10**6])
def test_a_number_of_threads_that_cannot_be_is_refused(model, threads):
    with pytest.raises(
        EngineError, match=rf"^--threads: {threads} threads asked for\n  hint: 1 to \d+ are possible here$"
    ):
        opened(model, threads=threads)


def test_by_default_there_is_a_thread_per_core_but_no_more_than_numba_has(model, monkeypatch):
    available = numba.config.NUMBA_NUM_THREADS
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(available + 5)))
    assert FastPath(model, capacity=1).threads == available
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3})
    assert FastPath(model, capacity=1).threads == 1


def test_rotary_constants_that_cannot_be_computed_are_refused(model):
    message = r"^random-\w+.gguf: rotary positions up to 15 cannot be computed: an angle outside"
    with pytest.raises(EngineError, match=message):
        opened(replace(model, config=replace(model.config, rope_scale=1e-9)))
    with pytest.raises(EngineError, match=message):
        opened(replace(model, rope_factors=np.full(model.config.rope_dim // 2, 1e-30, np.float32)))


def test_a_cache_in_float16_takes_half_and_holds_what_was_rounded(model):
    half, single = FastPath(model, capacity=40, threads=1, kv_cache="float16"), opened(model, capacity=40)
    assert half.keys.nbytes + half.values.nbytes == (single.keys.nbytes + single.values.nbytes) // 2
    logits, seen = traced(half, TOKENS)
    plain = single.forward(TOKENS)
    assert 0 < error(logits, plain) < 0.05
    stages = {(stage, layer): array for stage, layer, array in seen}
    for index in range(model.config.n_layers):
        keys, values = (cache.swapaxes(0, 1)[: len(TOKENS)].reshape(len(TOKENS), -1) for cache in cached(half, index))
        tapped = stages["k_post_rope", index]
        assert not np.array_equal(tapped, keys)  # the stage is what was before
        assert np.array_equal(tapped.astype(np.float16), keys)
        assert np.array_equal(stages["qkv_bias", index][:, -model.config.kv_width :].astype(np.float16), values)


def test_a_cache_in_float16_has_the_same_bits_in_pieces(model):
    def path():
        return FastPath(model, capacity=16, threads=1, kv_cache="float16")

    whole, pieces = path().forward(TOKENS), path()
    for token in TOKENS:
        last = pieces.forward([token])
    assert last.tobytes() == whole.tobytes()


@pytest.mark.parametrize("capacity", [1, 15, 16, 17, 100])
@pytest.mark.parametrize("kv_cache", KV_CACHES)
def test_the_cache_begins_where_a_line_of_the_processor_s_does(model, capacity, kv_cache):
    path = FastPath(model, capacity=capacity, threads=1, kv_cache=kv_cache)
    assert path.keys.ctypes.data % 64 == path.values.ctypes.data % 64 == 0
    assert not path.keys.any()
    assert not path.values.any()


def test_a_cache_for_which_there_is_no_memory_is_refused(model):
    with pytest.raises(
        EngineError, match=r"^--max-tokens: there is no memory for a cache of 1000000000000000 tokens\n"
    ):
        opened(model, capacity=10**15)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_reaches_the_logits(model, bad):
    layer = replace(model.layers[0], ffn_norm=model.layers[0].ffn_norm * np.float32(bad))
    assert np.isnan(opened(replace(model, layers=(layer, model.layers[1]))).forward(TOKENS)).all()


def test_the_path_names_itself_and_its_threading_layer(model):
    path = opened(model)
    path.forward([1])
    assert (path.name, path.variant) == ("fast", chosen())
    assert path.threading in ("omp", "tbb", "workqueue")
