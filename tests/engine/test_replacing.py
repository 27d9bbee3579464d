"""Tests of a tap that replaces: what it returns in place of a stage is what all that follows is computed from."""

from dataclasses import replace

import numba
import numpy as np
import pytest

from engine.fast import FastPath
from engine.reference import ReferencePath
from engine.stages import ORDER
from engine.variants import KV_CACHES
from falsifiers import on_arrays
from falsifiers.synthetic import NAMED, random_model, random_weight
from tests.engine.widths import WIDTHS, of_width

PROMPT, LATER = [7, 300, 21, 7, 128, 42, 11], [3, 250]
PRODUCTS = {"qkv_matmul", "attn_out", "ffn_gate", "ffn_up", "ffn_out", "lm_head"}
MATRICES = ("q", "k", "v", "attn_out", "gate", "up", "down")
READERS = {"q_post_rope": 2, "ffn_gate": 2, "ffn_up": 2}
"""How many stages on the first one lies that reads a stage, if it is not the next."""
ODD = WIDTHS[0], WIDTHS[2]
"""Heads of 20 and of 7 entries, rows that fill no vector."""


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def model(request):
    return random_model(np.random.default_rng(51), request.param)


@pytest.fixture(scope="module")
def in_float32(model):
    """The same with float32 weights, and a head of its own: no rounding of activations hides a defect."""
    rng = np.random.default_rng(52)

    def plain(weight):
        return random_weight(rng, weight.name, weight.rows, weight.columns, NAMED["F32"])

    layers = tuple(replace(layer, **{m: plain(getattr(layer, m)) for m in MATRICES}) for layer in model.layers)
    return replace(model, layers=layers, embedding=plain(model.embedding), output=plain(model.output))


def opened(model, threads=1, kv_cache="float32"):
    return FastPath(model, capacity=32, threads=threads, kv_cache=kv_cache)


def traced(path, tap=lambda stage, layer, array: None, chunk=None):
    """What every stage of a prompt and of two later tokens held before the tap, in order; and what was returned."""
    seen = []

    def both(stage, layer, array):
        seen.append((stage, layer, array.copy()))
        return tap(stage, layer, array)

    chunks = {} if chunk is None else {"chunk": chunk}
    returned = [path.forward(PROMPT, both, **chunks)]
    returned += [path.forward([token], both) for token in LATER]
    return seen, returned


def at(chosen, other):
    """A tap that replaces what `chosen` (stages or pairs of stage and layer) holds by other(array)."""
    return lambda stage, layer, array: other(array) if stage in chosen or (stage, layer) in chosen else None


def error(got, want):
    """Norm of the difference over the norm of `want`, of what is finite in both."""
    shown = np.isfinite(want)
    assert np.array_equal(np.isfinite(got), shown)
    return float(np.linalg.norm(got[shown] - want[shown]) / np.linalg.norm(want[shown]))


# ---------------------------------------------------------------- by its own output


@pytest.mark.parametrize("kv_cache", KV_CACHES)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("widths", [None, *ODD], ids=["256", *(str(widths["hidden"]) for widths in ODD)])
def test_a_stage_that_is_replaced_by_its_own_output_changes_no_bit(model, widths, threads, kv_cache):
    """Of nothing that follows, in the prompt, in the cache and in later tokens; for each stage, and for all at once."""
    if threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("this process may use one thread only")
    if widths is not None:
        model = of_width(model, np.random.default_rng(53), **widths)
    for chunk in (None, 3):
        plain = opened(model, threads, kv_cache)
        want, logits = traced(plain, chunk=chunk)
        for chosen in [*({stage} for stage in ORDER), set(ORDER)]:
            path = opened(model, threads, kv_cache)
            got, returned = traced(path, at(chosen, np.array), chunk)
            for (stage, layer, a), (_, _, b) in zip(got, want, strict=True):
                assert a.tobytes() == b.tobytes(), (chosen, stage, layer)
            assert [row.tobytes() for row in returned] == [row.tobytes() for row in logits], chosen
            assert path.keys.tobytes() == plain.keys.tobytes(), chosen
            assert path.values.tobytes() == plain.values.tobytes(), chosen


# ---------------------------------------------------------------- by something else


@pytest.mark.parametrize("widths", [None, *ODD], ids=["256", *(str(widths["hidden"]) for widths in ODD)])
@pytest.mark.parametrize("stage", ORDER)
def test_what_replaces_a_stage_drives_all_that_follows_as_in_the_reference_path(model, in_float32, stage, widths):
    """Both paths get the same arrays in place of the stage; then all later stages and tokens of both agree."""
    model = in_float32 if widths is None else of_width(model, np.random.default_rng(54), **widths)
    layers = [None] if stage in ("final_norm", "lm_head") else [0] if stage == "embedding" else [0, 1]
    plain, _ = traced(opened(model))
    for layer in layers:
        rng = np.random.default_rng(55)
        others = iter([changed(rng, stage, array) for s, index, array in plain if (s, index) == (stage, layer)])
        kept = list(others)
        sides = []
        for path in (opened(model), ReferencePath(model)):
            others = iter(kept)
            sides.append(traced(path, at({(stage, layer)}, lambda array, others=others: next(others))))
            assert next(others, None) is None
        (got, logits), (want, wanted) = sides
        for (name, index, a), (_, _, b) in zip(got, want, strict=True):
            assert error(a, b) <= 5e-6, (layer, name, index)
        for a, b in zip(logits, wanted, strict=True):
            assert error(a, b) <= 5e-6
        first = next(i for i, (name, index, _) in enumerate(plain) if (name, index) == (stage, layer))
        assert [a.tobytes() for _, _, a in got[: first + 1]] == [a.tobytes() for _, _, a in plain[: first + 1]]
        if stage != "lm_head":
            read = first + READERS.get(stage, 1)
            assert got[read][2].tobytes() != plain[read][2].tobytes()


def changed(rng, stage, array):
    """Another output that the stage could have: scores keep what they do not see, a softmax its sum."""
    noise = rng.standard_normal(array.shape).astype(np.float32)
    if stage == "attn_softmax":
        raised = np.where(array > 0, np.exp(noise), 0)
        return raised / raised.sum(axis=-1, keepdims=True)
    return array + noise


def test_a_replaced_key_and_value_is_what_a_later_token_attends_to(model):
    """Only in the prompt, and only one position: its key, or its value, is the cache's from then on."""
    c = model.config
    for kv_cache in KV_CACHES:
        for stage, which in (("k_post_rope", 0), ("qkv_bias", 1)):
            other, path = [], opened(model, kv_cache=kv_cache)

            def moved(array, stage=stage, other=other):
                array = array.copy()
                array[2, -c.kv_width :] += np.linspace(-3, 3, c.kv_width, dtype=np.float32)
                other.append(array[:, -c.kv_width :])
                return array

            path.forward(PROMPT, at({(stage, 1)}, moved))
            kept = on_arrays.cached(path, 1)[which].swapaxes(0, 1)[: len(PROMPT)].reshape(len(PROMPT), -1)
            assert kept.tobytes() == other[0].astype(kv_cache).astype(np.float32).tobytes()
            plain = opened(model, kv_cache=kv_cache)
            plain.forward(PROMPT)
            later, before = (traced_token(one) for one in (path, plain))
            changed_by = {
                name for (name, layer), array in later.items() if array.tobytes() != before[name, layer].tobytes()
            }
            assert changed_by >= {"attn_scores" if which == 0 else "attention", "lm_head"}
            unmoved = {"attn_norm", "k_post_rope"} | ({"attn_scores", "attn_softmax"} if which == 1 else set())
            assert not changed_by & unmoved
            if which == 0:
                where = np.nonzero(later["attn_scores", 1] != before["attn_scores", 1])[2]
                assert set(where.tolist()) == {2}


def traced_token(path):
    seen = {}
    path.forward([9], lambda stage, layer, array: seen.__setitem__((stage, layer), array.copy()))
    return seen


def test_every_stage_that_is_fed_the_reference_path_s_input_gives_its_output(model):
    """One forward in which each stage is replaced: what it held before is its own error, without what was carried."""
    exact, _ = traced(ReferencePath(model))
    others = iter([array for _, _, array in exact])
    want, _ = traced(ReferencePath(model), lambda stage, layer, array: next(others))
    others = iter([array for _, _, array in exact])
    got, logits = traced(opened(model), lambda stage, layer, array: next(others))
    for (stage, layer, a), (_, _, b) in zip(got, want, strict=True):
        # 256 activations share a step of largest / 127, and the largest is some 8 times their root mean square
        assert error(a, b) ** 2 <= (5e-4 if stage in PRODUCTS else 1e-10), (stage, layer)
    assert [row.tobytes() for row in logits] == [a.tobytes() for stage, _, a in exact if stage == "lm_head"]


@pytest.mark.parametrize("tokens", [[5], [5, 6, 7, 8, 9]])
def test_activations_that_are_replaced_are_rounded_again_with_what_that_leaves(model, tokens):
    """The product after them has the bits of the kernels on those activations, that of v with the rests."""
    rng = np.random.default_rng(56)
    for stage, after, names in (
        ("attn_norm", ("qkv_matmul",), ("q", "k", "v")),
        ("attention", ("attn_out",), ("attn_out",)),
        ("ffn_norm", ("ffn_gate", "ffn_up"), ("gate", "up")),
        ("ffn_swigl", ("ffn_out",), ("down",)),
        ("final_norm", ("lm_head",), ("output",)),
    ):
        for layer in (0, 1) if stage != "final_norm" else (None,):
            x, seen = [], {}

            def tap(name, index, array, at=(stage, layer), x=x, seen=seen):
                if (name, index) == at:
                    x.append((rng.standard_normal(array.shape) * 2).astype(np.float32))
                    return x[0]
                seen[name, index] = array.copy()
                return None

            opened(model).forward(tokens, tap)
            holder = model if layer is None else model.layers[layer]
            rows = x[0] if layer is not None else x[0][-1:]
            want = [on_arrays.matmul(rows, getattr(holder, name), rests=name == "v") for name in names]
            got = np.concatenate([seen[name, layer].reshape(len(rows), -1) for name in after], axis=1)
            assert got.tobytes() == np.concatenate(want, axis=1).tobytes(), (stage, layer)


def test_a_key_ahead_is_seen_where_what_replaces_the_scores_or_the_softmax_shows_it(in_float32):
    """The mask is part of those stages: a fault in another engine's mask can be put in, as in the reference path."""
    for stage, value in (("attn_scores", 1.0), ("attn_softmax", 0.25)):

        def shown(array, value=value):
            array = array.copy()
            array[1, 3, 4] = value  # of one token, one head and one key after it
            return array

        sides = []
        for path in (opened(in_float32), ReferencePath(in_float32)):
            seen = {}

            def tap(name, layer, array, stage=stage, shown=shown, seen=seen):
                seen[name, layer] = array.copy()
                return shown(array) if (name, layer) == (stage, 1) else None

            path.forward(PROMPT, tap)
            sides.append(seen)
        got, want = sides
        for at_, array in got.items():
            assert error(array, want[at_]) <= 5e-6, (stage, at_)
        if stage == "attn_scores":
            assert got["attn_softmax", 1][1, 3, 4] > 0


@pytest.mark.parametrize("stage", ORDER)
def test_an_array_of_another_size_is_refused(model, stage):
    with pytest.raises(ValueError, match="reshape"):
        opened(model).forward(PROMPT, at({stage}, lambda array: array[..., :1]))


def test_logits_that_replace_those_of_the_model_stay_the_caller_s(model):
    other = np.arange(model.config.vocab, dtype=np.float32)
    returned = opened(model).forward(PROMPT, at({"lm_head"}, lambda array: other))
    returned += 1
    assert other[1] == 1
