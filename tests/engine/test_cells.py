"""Tests of engine.cells: what the matrix holds, what a cell hashes, and that each axis reaches the fast path."""

import io
import json
import sys
from dataclasses import replace
from hashlib import sha256

import numba
import numpy as np
import pytest

from engine import cells
from engine.cells import CHUNKS, DECODE, FRESH, LOGITS, MODES, PREFILL, STARTS, THREADS, WARM, Cell, Tensors, measure
from engine.fast import FastPath
from engine.registry import locate
from engine.variants import VARIANTS, available, chosen
from falsifiers import on_arrays
from falsifiers.synthetic import random_model

f32 = np.float32
TOKENS = [7, 300, 21, 7, 128, 42, 350, 1, 0]
PLAIN = Cell(variant=chosen(), threads=1, start=FRESH, chunk=None, mode=PREFILL)


@pytest.fixture(scope="module")
def model():
    return random_model(np.random.default_rng(7), "qwen2")


@pytest.fixture(autouse=True)
def _same_number_of_threads():
    before = numba.get_num_threads()
    yield
    numba.set_num_threads(before)


def one(model, cell=PLAIN, **options):
    (found,) = measure(model, TOKENS, [cell], **options)
    return found


# ---------------------------------------------------------------- the matrix


def test_the_matrix_is_every_combination_once_process_by_process():
    planned = cells.planned()
    assert len(planned) == len(set(planned)) == 3 * 3 * 4 * 2 * 2
    assert {cell.variant for cell in planned} == set(VARIANTS)
    assert {cell.threads for cell in planned} == set(THREADS) == {1, 2, 3}
    assert {cell.chunk for cell in planned} == set(CHUNKS) == {None, 16, 3, 1}
    assert {cell.mode for cell in planned} == set(MODES)
    assert {cell.start for cell in planned} == set(STARTS)
    for start in range(0, 144, 16):
        process = planned[start : start + 16]
        assert len({(cell.variant, cell.threads) for cell in process}) == 1
        assert [cell.start for cell in process] == [FRESH] * 8 + [WARM] * 8


def test_each_way_is_the_first_work_of_some_process():
    first = {(cell.chunk, cell.mode) for cell in cells.planned()[::16]}
    assert len(first) == len(CHUNKS) * len(MODES)


@pytest.mark.parametrize(
    ("chunk", "mode", "tokens", "why"),
    [
        (None, PREFILL, 1, ""),
        (None, DECODE, 2, ""),
        (None, DECODE, 1, "a single token leaves none to decode"),
        (16, PREFILL, 17, ""),
        (16, DECODE, 16, "one chunk of 16 holds the whole prompt"),
        (1, PREFILL, 1, "one chunk of 1 holds the whole prompt"),
        (3, PREFILL, 2, "one chunk of 3 holds the whole prompt"),
    ],
)
def test_a_cell_that_a_short_prompt_makes_like_another_says_so(chunk, mode, tokens, why):
    assert cells.unlike_others(replace(PLAIN, chunk=chunk, mode=mode), tokens) == why


def test_cells_differ_along_axes_and_name_them():
    other = Cell(variant="avx9", threads=3, start=WARM, chunk=3, mode=DECODE)
    assert PLAIN.distance(PLAIN) == 0
    assert PLAIN.distance(replace(PLAIN, chunk=1)) == 1
    assert PLAIN.distance(other) == 5
    assert str(other) == "avx9, 3 threads, chunks of 3, decode, warm"
    assert str(replace(PLAIN, variant="avx9")) == "avx9, 1 thread, whole prompt, prefill, fresh"


# ---------------------------------------------------------------- what is hashed


def test_the_digest_of_a_cell_is_that_of_a_line_per_tensor_in_the_order_of_execution():
    stages = {LOGITS: "e", ("lm_head", None): "d", ("qkv_bias", 1): "c", ("attn_norm", 1): "b", ("ffn_out", 0): "a"}
    text = "ffn_out 0 a\nattn_norm 1 b\nqkv_bias 1 c\nlm_head - d\nlogits - e\n"
    assert cells.digest(stages) == sha256(text.encode()).hexdigest()
    assert [cells.key_of(cells.name_of(key)) for key in stages] == list(stages)


def test_positions_are_concatenated_whatever_pieces_they_come_in():
    rng = np.random.default_rng(1)
    rows, scores = rng.standard_normal((5, 8)).astype(f32), rng.standard_normal((5, 2, 5)).astype(f32)
    scores[:, :, 1:][np.triu(np.ones((5, 4), bool))[:, None, :].repeat(2, axis=1)] = -np.inf  # keys that lie ahead
    found = []
    for cuts in ((5,), (2, 5), (1, 2, 3, 4, 5)):
        tensors, start = Tensors(5, ("attn_scores", 0)), 0
        for stop in cuts:
            tensors.tap("ffn_out", 0, rows[start:stop])
            tensors.tap("attn_scores", 0, np.ascontiguousarray(scores[start:stop, :, :stop]))
            tensors.tap("lm_head", None, rows[stop - 1])
            start = stop
        assert np.array_equal(tensors.kept(), scores)
        found.append(tensors.digests())
    assert found[0] == found[1] == found[2]
    assert found[0] == {
        ("ffn_out", 0): sha256(rows.tobytes()).hexdigest(),
        ("attn_scores", 0): sha256(scores.tobytes()).hexdigest(),
        ("lm_head", None): sha256(rows[4].tobytes()).hexdigest(),
    }


def test_softmax_is_continued_with_zeros():
    tensors = Tensors(3, None)
    tensors.tap("attn_softmax", 0, np.ones((1, 2, 1), f32))
    want = np.array([[[1, 0, 0], [1, 0, 0]]], f32)
    assert tensors.digests()["attn_softmax", 0] == sha256(want.tobytes()).hexdigest()
    assert tensors.kept() is None


@pytest.mark.parametrize("wanted", [("attn_scores", 1), ("lm_head", None), LOGITS])
def test_a_cell_hashes_what_is_tapped_and_what_is_answered(model, wanted):
    seen = {}
    path = FastPath(model, capacity=len(TOKENS), threads=1)
    seen[LOGITS] = path.forward(TOKENS, lambda stage, layer, array: seen.update({(stage, layer): array.copy()}))
    found = one(model, wanted=wanted)
    assert len(found.stages) == 3 + 17 * 2 + 1
    assert found.stages == {key: sha256(array.tobytes()).hexdigest() for key, array in seen.items()}
    assert found.kept.tobytes() == seen[wanted].tobytes()


def test_of_decoded_logits_the_last_are_kept(model):
    found = one(model, replace(PLAIN, mode=DECODE), wanted=("lm_head", None))
    assert found.kept.tobytes() == FastPath(model, capacity=len(TOKENS), threads=1).forward(TOKENS).tobytes()


def test_a_bit_of_any_tensor_changes_the_digest_of_its_cell(model):
    stages = one(model).stages
    changed = {cells.digest({**stages, key: "0" * 64}) for key in stages}
    assert len({cells.digest(stages), *changed}) == 1 + len(stages)


# ---------------------------------------------------------------- what is run


def test_every_way_in_this_process_gives_the_same_bits(model):
    threads = [1, 2] if numba.config.NUMBA_NUM_THREADS > 1 else [1]
    ways = [
        replace(PLAIN, threads=count, start=start, chunk=chunk, mode=mode)
        for count in threads
        for start in STARTS
        for chunk in (None, 3, 1)
        for mode in MODES
    ]
    assert len({cells.digest(found.stages) for found in measure(model, TOKENS, ways)}) == 1


@pytest.mark.parametrize(
    ("chunk", "mode", "want"),
    [
        (None, PREFILL, [9]),
        (None, DECODE, [5, 1, 1, 1, 1]),
        (3, PREFILL, [3, 3, 3]),
        (3, DECODE, [3, 2, 1, 1, 1, 1]),
        (1, PREFILL, [1] * 9),
    ],
)
def test_chunks_and_decoding_reach_the_kernels_traced_and_not(model, monkeypatch, chunk, mode, want):
    through, counts = FastPath._through, {False: [], True: []}

    def watched(self, tokens, tap):
        counts[tap is not None].append(len(tokens))
        return through(self, tokens, tap)

    monkeypatch.setattr(FastPath, "_through", watched)
    one(model, replace(PLAIN, chunk=chunk, mode=mode))
    assert counts == {False: want, True: want}


@pytest.mark.parametrize("silent_first", [True, False])
def test_the_untraced_run_comes_first_where_it_is_asked_for(model, monkeypatch, silent_first):
    order, forward = [], FastPath.forward

    def watched(self, tokens, tap=None, chunk=None):
        order.append(tap is None)
        return forward(self, tokens, tap, chunk)

    monkeypatch.setattr(FastPath, "forward", watched)
    one(model, silent_first=silent_first)
    assert order == [silent_first, not silent_first]


def test_warm_arrays_hold_another_longer_prompt_before_each_run(model, monkeypatch):
    opened, held, init, through = [], [], FastPath.__init__, FastPath._through

    def counted(self, *args, **options):
        opened.append(self)
        init(self, *args, **options)

    def watched(self, tokens, tap):
        if list(tokens) == TOKENS:
            held.append([bool(on_arrays.key_slot(self, 0, slot).any()) for slot in range(self.capacity)])
        return through(self, tokens, tap)

    monkeypatch.setattr(FastPath, "__init__", counted)
    monkeypatch.setattr(FastPath, "_through", watched)
    list(measure(model, TOKENS, [PLAIN, replace(PLAIN, start=WARM), replace(PLAIN, start=WARM)]))
    assert len(opened) == 2 + 1
    assert held == [[False] * 12] * 2 + [[True] * 12] * 4


def test_a_slot_that_is_left_shows_in_warm_cells_alone(model, monkeypatch):
    rotate = FastPath.rotate

    def lazy(self, b, layer):
        slot = on_arrays.key_slot(self, layer, self.position)
        left = slot.copy()
        rotate(self, b, layer)
        if left.any():
            slot[:] = left

    plain = one(model).stages
    monkeypatch.setattr(FastPath, "rotate", lazy)
    assert one(model).stages == plain
    warm = one(model, replace(PLAIN, start=WARM)).stages
    assert {key for key in plain if plain[key] != warm[key]} >= {("attn_scores", 0), LOGITS}
    assert warm["k_post_rope", 0] == plain["k_post_rope", 0]


def test_a_number_of_threads_that_does_not_run_is_no_measurement(model, monkeypatch):
    monkeypatch.setattr(numba, "set_num_threads", lambda count: None)
    running = numba.get_num_threads()
    other = 1 if running > 1 else 2
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 4)
    with pytest.raises(ValueError, match=rf"^{running} threads ran where {other} were asked for$"):
        one(model, replace(PLAIN, threads=other))


# ---------------------------------------------------------------- the process


def asked(monkeypatch, **request):
    """(exit code, answer) of the program to a request."""
    whole = {
        "model": str(locate("tiny-qwen2")), "tokens": [5, 6], "kv_cache": "float32", "silent_first": False,
        "first": False, "known": None, "wanted": None, "file": None,
    }  # fmt: skip
    cell = {name: getattr(PLAIN, name) for name in PLAIN.__slots__}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({**whole, "cells": [cell], **request})))
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    return cells.main(), json.loads(out.getvalue())


def test_the_program_answers_with_a_sha256_for_each_tensor_and_keeps_one(monkeypatch, tmp_path):
    file = tmp_path / "kept.npy"
    code, answer = asked(monkeypatch, wanted=["ffn_norm", 3], file=str(file))
    (stages,) = answer["stages"]
    assert (code, len(stages)) == (0, 3 + 17 * 4 + 1)
    kept = np.load(file)
    assert kept.shape == (2, 256)
    assert stages["ffn_norm 3"] == sha256(kept.tobytes()).hexdigest()


def test_the_program_refuses_what_it_cannot_measure_under_that_name(monkeypatch, tmp_path):
    other = next(name for name in [*available(), *VARIANTS] if name != chosen())
    cell = {name: getattr(PLAIN, name) for name in PLAIN.__slots__} | {"variant": other}
    code, answer = asked(monkeypatch, cells=[cell])
    assert code == 2
    assert "the kernels of this process are" in answer["error"] or "cannot run the variant" in answer["error"]
    code, answer = asked(monkeypatch, model=str(tmp_path / "none.gguf"))
    assert code == 2
    assert "none.gguf" in answer["error"]


def differing_from(monkeypatch, number, key):
    """Of the cells that are measured, that tensor differs in all from a number on."""
    real = cells.measure

    def planted(*arguments, **options):
        for index, one in enumerate(real(*arguments, **options)):
            stages = {**one.stages, key: "0" * 64} if index >= number else one.stages
            yield replace(one, stages=stages)

    monkeypatch.setattr(cells, "measure", planted)


@pytest.mark.parametrize("key", [("ffn_up", 2), LOGITS])
@pytest.mark.parametrize(("number", "first", "want"), [(2, True, 3), (2, False, 5), (9, True, 5), (0, True, None)])
def test_the_program_ends_with_the_first_cell_that_differs_where_it_is_asked_to(monkeypatch, key, number, first, want):
    cell = {name: getattr(PLAIN, name) for name in PLAIN.__slots__}
    differing_from(monkeypatch, number, key)
    code, answer = asked(monkeypatch, cells=[cell] * 5, first=first)
    if want is None:  # all differ alike, and only from their own logits may it show
        want = 1 if key == LOGITS else 5
    assert (code, len(answer["stages"])) == (0, want)


def test_a_cell_of_another_process_is_what_the_first_must_not_differ_from(monkeypatch):
    cell = {name: getattr(PLAIN, name) for name in PLAIN.__slots__}
    _, answer = asked(monkeypatch)
    same = cells.digest({cells.key_of(name): value for name, value in answer["stages"][0].items()})
    for known, want in ((same, 3), ("0" * 64, 1)):
        _, answer = asked(monkeypatch, cells=[cell] * 3, first=True, known=known)
        assert len(answer["stages"]) == want
