"""Tests of engine.bisection.shared: what no comparison of two sides shows, said of each pair of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.bisection.naming import Spec
from engine.bisection.shared import beside_itself, not_tested
from engine.bisection.sides import FolderSide, OracleSide
from falsifiers.synthetic import random_model
from tests.engine.bisecting import FakeOracle, fast, reference
from tests.engine.bisection.test_sides import traced

READ = "the reader, the configuration, the tokenizer"
ELSEWHERE = "an oracle of another engine tests them"
ORDER = "the order in which its queries and keys are read (our configuration's)"
SIZES = "the sizes by which its stages are cut, and whether Q, K and V have a bias (our configuration's)"


@pytest.fixture(scope="session")
def model():
    return random_model(np.random.default_rng(44), "qwen2")


@pytest.fixture(scope="session")
def sides(model, tmp_path_factory):
    """A side of each kind by what it is called; folders in capitals."""

    def oracle(name, variant):
        found = FakeOracle(model)
        found.name, found.variant = name, variant
        return OracleSide(Spec("m", "m", name), model, found)

    def folder(path, variant="float32"):
        place = traced(model, tmp_path_factory.mktemp(path), path=path, variant=variant)
        return FolderSide(Spec(str(place), str(place), "folder"))

    return {
        "fast": fast(model),
        "reference": reference(model),
        "transformers": oracle("transformers", "float32"),
        "bfloat16": oracle("transformers", "bfloat16"),
        "llama-cpp": oracle("llama-cpp", "cpu"),
        "FAST": folder("fast"),
        "REFERENCE": folder("reference"),
        "TRANSFORMERS": folder("transformers"),
        "LLAMA": folder("llama-cpp", "cpu"),
    }


@pytest.mark.parametrize(
    ("a", "b", "shared"),
    [
        ("fast", "reference", f"{READ}; {ELSEWHERE}"),
        ("REFERENCE", "fast", f"{READ}; {ELSEWHERE}"),
        ("fast", "FAST", f"{READ}, the path fast (but for what changed in it between the two runs); {ELSEWHERE}"),
        ("fast", "transformers", f"the file, {ORDER}"),
        ("llama-cpp", "reference", f"the file, {SIZES}"),
        ("llama-cpp", "transformers", f"the file, {SIZES}, {ORDER}"),
        ("llama-cpp", "TRANSFORMERS", f"the file, {SIZES}, {ORDER}"),
        ("transformers", "bfloat16", f"all of transformers but the dtype of its arithmetic, {ORDER}"),
    ],
)
def test_what_a_pair_of_sides_shares(sides, a, b, shared):
    assert not_tested(sides[a], sides[b], True, 8) == [f"what both sides share: {shared}"]


@pytest.mark.parametrize("a", ["fast", "FAST"])
@pytest.mark.parametrize("b", ["TRANSFORMERS", "LLAMA"])
def test_an_oracles_folder_has_our_tokens(sides, a, b):
    (line,) = not_tested(sides[a], sides[b], True, 8)
    assert "the tokenizer (`apr oracle` runs our tokens)" in line
    assert line.endswith("; MODEL@transformers or MODEL@llama-cpp reads the prompt by itself")


def test_two_models_share_no_file_and_two_formats_no_reader(sides, model):
    assert not_tested(sides["fast"], sides["transformers"], False, 8) == [f"what both sides share: {ORDER}"]
    other = fast(replace(model, path=Path("there/model.gguf")))
    assert not_tested(other, sides["reference"], False, 8) == [f"what both sides share: {READ}; {ELSEWHERE}"]
    checkpoint = fast(replace(model, path=Path(".")))  # a folder
    assert not_tested(checkpoint, sides["reference"], False, 8) == [
        f"what both sides share: what our readers and tokenizers of both formats have in common; {ELSEWHERE}"
    ]


def test_a_side_beside_itself_tests_determinism_alone(sides):
    alone = "a side beside itself tests determinism alone"
    for name in ("fast", "transformers", "llama-cpp"):
        assert beside_itself(sides[name], sides[name], True) == alone
        assert not_tested(sides[name], sides[name], True, 8) == []
    whole, pieces = sides["reference"], replace(sides["reference"], split=True)
    assert beside_itself(pieces, whole, True) == f"{alone} (here of a prompt in pieces, too)"


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("fast", "reference", True),
        ("fast", "fast", False),
        ("transformers", "bfloat16", True),
        ("fast", "FAST", True),
        ("FAST", "FAST", True),
    ],
)
def test_what_is_not_itself(sides, a, b, same):
    """Of a folder, the bits are another run's; that nobody names one twice is for the command."""
    assert beside_itself(sides[a], sides[b], same) == ""


@pytest.mark.parametrize(("tokens", "lines"), [(1, 2), (3, 2), (4, 1)])
def test_a_short_prompt_leaves_kernels_out(sides, tokens, lines):
    found = not_tested(sides["fast"], sides["reference"], True, tokens)
    assert len(found) == lines
    assert ("the fast path's kernels for several tokens at once" in found[-1]) == (lines == 2)
    assert len(not_tested(sides["reference"], sides["transformers"], True, tokens)) == 1
