"""Tests of falsifiers.determinism and its child: defects reach the processes that measure, and random models too."""

import numpy as np
import pytest

from engine import cells
from engine import determinism as matrix
from engine.cells import FRESH, PREFILL, Cell
from engine.registry import locate
from engine.variants import chosen
from falsifiers import determinism, determinism_child
from falsifiers.determinism import TOKENS, child, everywhere, expected, last_bits_are_not_hashed
from falsifiers.subject import InProcess
from falsifiers.synthetic import random_model
from pv.trial import Trial

PLAIN = Cell(variant=chosen(), threads=1, start=FRESH, chunk=None, mode=PREFILL)


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_the_sha256_of_a_trace_is_that_of_a_cell(architecture):
    model = random_model(np.random.default_rng(3), architecture)
    trial = Trial(seed=0)  # its folder goes with it
    folder = InProcess(trial, model, TOKENS).trace("all")
    (found,) = cells.measure(model, TOKENS, [PLAIN])
    assert expected(folder, 2) == cells.digest(found.stages)


def test_a_mutant_is_named_to_processes_for_a_while():
    plain = matrix.CHILD
    assert child()[-1] == "falsifiers.determinism_child"
    with everywhere("some_mutant"):
        assert matrix.CHILD == child() == (*plain[:3], "falsifiers.determinism_child", "some_mutant")
    assert plain == matrix.CHILD
    assert determinism._planted == ()


def test_a_process_has_the_defect_and_the_random_model_that_are_named(monkeypatch):
    (want,) = cells.measure(random_model(np.random.default_rng(8), "llama"), TOKENS, [PLAIN])
    monkeypatch.setattr(matrix, "CHILD", child())
    (plain,) = matrix.start("random llama 8", TOKENS, [PLAIN])
    assert plain == want.stages
    with last_bits_are_not_hashed():
        (rounded,) = matrix.start("random llama 8", TOKENS, [PLAIN])
    assert rounded.keys() == plain.keys()
    assert all(rounded[key] != plain[key] for key in plain if key not in (("embedding", 0), cells.LOGITS))
    assert rounded[cells.LOGITS] == plain[cells.LOGITS]


def test_a_model_is_read_where_it_is_not_random():
    assert determinism_child.opened(str(locate("tiny-qwen2"))).config.name == "tiny-qwen2"
    one, other = (determinism_child.opened(f"random qwen2 {seed}") for seed in (1, 2))
    assert (one.config.architecture, one.config.n_layers) == ("qwen2", 2)
    assert not np.array_equal(one.embedding.raw, other.embedding.raw)
