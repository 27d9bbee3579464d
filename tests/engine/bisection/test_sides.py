"""Tests of engine.bisection.sides and engine.bisection.stages: what a prompt in pieces becomes, what a folder says."""

import json

import numpy as np
import pytest

from engine.bisection.naming import Spec, parse
from engine.bisection.sides import HALVES, HANDED, FolderSide, OracleSide, PathSide, Pieces
from engine.bisection.stages import OPERATIONS, expected, inputs, shape, unseen_before, weights
from engine.errors import EngineError
from engine.reference import ReferencePath
from engine.stages import NAMES
from engine.trace_folder import TraceWriter
from falsifiers.synthetic import random_model
from tests.engine.bisecting import TOKENS, FakeOracle, fast


@pytest.fixture(scope="session")
def model():
    return random_model(np.random.default_rng(42), "qwen2")


def test_the_pieces_of_a_prompt_become_the_whole_prompt_s_stages(model):
    whole, pieces = Pieces(len(TOKENS)), Pieces(len(TOKENS))
    ReferencePath(model).forward(TOKENS, whole.tap)
    path = ReferencePath(model)
    for start, end in ((0, 5), (5, 7), (7, 8)):
        pieces.start = start
        path.forward(TOKENS[start:end], pieces.tap)
    assert list(pieces.stages) == list(whole.stages)
    for key, array in whole.stages.items():
        assert pieces.stages[key].shape == array.shape == shape(key[0], model.config, len(TOKENS))
        assert np.allclose(pieces.stages[key], array, rtol=1e-6, atol=1e-6)


def test_what_is_handed_over_is_the_part_of_each_piece_and_the_logits_of_the_last(model):
    whole = Pieces(len(TOKENS))
    ReferencePath(model).forward(TOKENS, whole.tap)
    given = {key: array + 1 for key, array in whole.stages.items()}
    pieces = Pieces(len(TOKENS), given, frozenset({("attn_scores", 0), ("lm_head", None)}))
    pieces.start = 6
    part = np.zeros((1, 4, 7), np.float32)
    assert np.array_equal(pieces.tap("attn_scores", 0, part), given["attn_scores", 0][6:7, :, :7])
    assert pieces.tap("attn_scores", 1, part) is None
    logits = np.zeros(model.config.vocab, np.float32)
    assert pieces.tap("lm_head", None, logits) is None
    pieces.start = 7
    assert np.array_equal(pieces.tap("lm_head", None, logits), given["lm_head", None])


def test_the_last_two_tokens_of_the_subject_come_alone(model):
    side = fast(model)
    assert [side.parts(tokens) for tokens in (8, 3, 2, 1)] == [(6, 1, 1), (1, 1, 1), (1, 1), (1,)]
    side.stages(TOKENS, Pieces(len(TOKENS)))
    assert side.facts()["pieces"] == [6, 1, 1]
    assert side.forwards == 1


def traced(model, folder, stages=NAMES, **fields):
    with TraceWriter(folder, stages=stages, layers=range(2)) as writer:
        ReferencePath(model).forward(TOKENS, writer.tap)
        facts = {
            "engine": "1",
            "model": {"name": "m", "sha256": "0" * 64, "architecture": "qwen2"},
            "prompt": "p",
            "tokens": TOKENS,
            "path": "reference",
            "variant": "v",
        }
        writer.finish(**{**facts, **fields})
    return folder


def changed(folder, **fields):
    """The folder with other values in its manifest."""
    file = folder / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
    return folder


def test_a_folder_is_a_side_by_its_manifest(model, tmp_path):
    folder = traced(model, tmp_path / "t")
    spec = parse(str(folder), "fast")
    side = FolderSide(spec)
    assert spec.engine == "folder"
    side.check(model)
    pieces = Pieces(len(TOKENS))
    logits = side.stages(TOKENS, pieces)
    assert (set(pieces.stages), side.untraced(TOKENS), side.forwards) == (set(expected(2)), None, 0)
    assert np.array_equal(logits, pieces.stages["lm_head", None])
    assert side.arithmetic == ("float32", HANDED)


@pytest.mark.parametrize(
    ("fields", "arithmetic"),
    [
        ({"path": "fast"}, ("int8", "float32")),
        ({"path": "fast", "kv_cache": "float16"}, ("int8", "float32", "float16 cache")),
        ({"path": "transformers", "variant": "bfloat16"}, ("bfloat16", "float32", HANDED)),
        ({"path": "transformers", "variant": "float32"}, ("float32", HANDED)),
        ({"path": "llama-cpp"}, ("int8", "float32", HALVES, HANDED)),
    ],
)
def test_the_floor_of_a_folder_is_that_of_what_wrote_it(model, tmp_path, fields, arithmetic):
    assert FolderSide(Spec("t", str(traced(model, tmp_path / "t", **fields)), "folder")).arithmetic == arithmetic


def test_what_an_oracle_could_not_give_is_missing_from_its_folder(model, tmp_path):
    given = [stage for stage in NAMES if stage != "ffn_silu"]
    folder = traced(model, tmp_path / "t", given, path="llama-cpp", missing=["ffn_silu"])
    side = FolderSide(Spec("t", str(folder), "folder"))
    assert side.missing == ("ffn_silu",)
    assert side.facts()["missing"] == ["ffn_silu"]
    assert FolderSide(Spec("u", str(traced(model, tmp_path / "u")), "folder")).facts()["missing"] == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"path": "transformers", "variant": "float8"},
            "variant is 'float8', and of the path transformers it is one of: float32, float16, bfloat16",
        ),
        (
            {"path": "fast", "kv_cache": "int4"},
            "kv_cache is 'int4', and of the path fast it is one of: float32, float16",
        ),
    ],
)
def test_a_folder_of_an_arithmetic_that_is_not_known_is_refused_with_its_manifest(model, tmp_path, fields, message):
    folder = changed(traced(model, tmp_path / "t"), **fields)
    with pytest.raises(EngineError) as caught:
        FolderSide(Spec("t", str(folder), "folder"))
    assert str(caught.value).startswith(f"{folder}/manifest.json: {message}\n  hint: write the folder again")


def test_options_that_a_path_does_not_take_are_refused_before_it_runs(model):
    side = fast(model)
    side.check()
    assert side.forwards == 0
    side.threads = 0
    with pytest.raises(EngineError, match=r"^--threads: 0 threads asked for\n"):
        side.check()


def test_a_folder_of_another_model_is_refused(model, tmp_path):
    side = FolderSide(Spec("t", str(traced(model, tmp_path / "t")), "folder"))
    with pytest.raises(EngineError, match=r"^.*t: the stages are of a qwen2 model, random-llama.gguf is llama\n"):
        side.check(random_model(np.random.default_rng(0), "llama"))
    short = FolderSide(Spec("t", str(traced(model, tmp_path / "u", tokens=TOKENS[:-1])), "folder"))
    with pytest.raises(EngineError, match=r"u: embedding of layer 0 has the shape \(8, 256\); .* gives \(7, 256\)\n"):
        short.check(model)


def test_a_file_that_is_not_as_the_manifest_says_is_refused(model, tmp_path):
    folder = traced(model, tmp_path / "t")
    (folder / "lm_head.bin").write_bytes((folder / "final_norm.bin").read_bytes())
    with pytest.raises(EngineError, match=r"lm_head.bin: holds 2048 values of layer None, the manifest says \(384,\)"):
        FolderSide(Spec("t", str(folder), "folder"))


def test_the_floor_of_an_oracle_is_that_of_its_arithmetic(model):
    oracle = FakeOracle(model)
    side = OracleSide(Spec("m", "m", "transformers"), model, oracle)
    assert side.arithmetic == ("float32", HANDED)
    oracle.variant = "float16"
    assert side.arithmetic == ("float16", "float32", HANDED)
    oracle.name = "llama-cpp"
    assert side.arithmetic == ("int8", "float32", HALVES, HANDED)
    assert PathSide(Spec("m", "m", "reference"), model).arithmetic == ("float32", HANDED)


# ---------------------------------------------------------------- stages


def test_each_stage_reads_earlier_ones_and_all_of_them_reach_the_logits():
    order = expected(3)
    read = set()
    for place, key in enumerate(order):
        assert all(order.index(one) < place for one in inputs(key, 3))
        read |= set(inputs(key, 3))
    assert set(order) - read == {("lm_head", None)}


def test_what_could_not_be_compared_before_a_stage():
    missing = {("attn_scores", 1), ("k_post_rope", 1), ("ffn_silu", 0)}
    assert unseen_before(("attn_softmax", 1), 2, missing) == (("k_post_rope", 1), ("attn_scores", 1))
    assert unseen_before(("attn_norm", 1), 2, missing) == ()


def test_products_have_a_matrix_row_for_each_column(model):
    for key in expected(2):
        found = weights(key, model)
        if found:
            assert sum(weight.rows for weight in found) == shape(key[0], model.config, 1)[-1]
    assert len([key for key in expected(2) if weights(key, model)]) == 11


def test_every_stage_has_operations_that_may_be_wrong():
    assert {*NAMES, "tokens"} == set(OPERATIONS)
