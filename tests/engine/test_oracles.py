"""Comparison of both execution paths with llama.cpp and Transformers: token ids, logits, and the next token.

The reference path computes what the file's weights mean, and so does Transformers; llama.cpp rounds activations to 8
bits as the fast path does. So a path is close to both, and the closer the less it rounds.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from engine.errors import EngineError
from engine.gguf import read_gguf
from engine.model import read_model
from engine.paths import open_path
from engine.registry import locate
from engine.tokenizer import Tokenizer

pytestmark = pytest.mark.oracle

SMOLLM2 = ("What is 2+2?", [1780, 314, 216, 34, 27, 34, 47], 2)
"""Prompt, its ids, and the likeliest next token, without the chat template: the end token."""
PROMPTS = (
    "What is 2+2?",
    "Return a list of the",
    "The file is closed when the block ends, even if an exception occurs.",
)
ENOUGH = 0.999
OPEN = []
"""What llama.cpp has opened."""


@cache
def llama_cpp_logits(path: Path, tokens: tuple[int, ...]) -> np.ndarray:
    """(tokens, vocab) float32 by llama.cpp: a row per position."""
    llama = llama_cpp_of(path)
    llama.reset()
    llama.eval(list(tokens))
    return np.array(llama.scores[: len(tokens)])


@cache
def llama_cpp_of(path: Path):
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra `oracles`)")
    llama = llama_cpp.Llama(str(path), logits_all=True, verbose=False, n_ctx=64, n_threads=2)
    OPEN.append(llama)
    return llama


@pytest.fixture(scope="session", autouse=True)
def _llamas_are_closed():
    yield
    while OPEN:
        OPEN.pop().close()  # left to the end of the interpreter, it fails on modules that are gone


@cache
def transformers_logits(path: Path, tokens: tuple[int, ...]) -> np.ndarray:
    """(tokens, vocab) float32 by Transformers on dequantised weights: a row per position."""
    model, torch = transformers_of(path)
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].numpy()


@cache
def transformers_of(path: Path):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `oracles`)")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra `oracles`)")
    pytest.importorskip("accelerate", reason="accelerate is not installed (extra `oracles`)")
    model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    return model.eval(), torch


ORACLES = {"llama.cpp": llama_cpp_logits, "transformers": transformers_logits}


@cache
def opened(path: Path):
    file = read_gguf(path)
    return read_model(file), Tokenizer.from_gguf(file)


@cache
def our_logits(path: Path, tokens: tuple[int, ...], name: str) -> np.ndarray:
    """(tokens, vocab) float32 by one of our paths, token after token: a row per position."""
    runner = open_path(opened(path)[0], name, capacity=len(tokens))
    return np.array([runner.forward([token]) for token in tokens])


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.fixture(scope="session")
def smollm2() -> Path:
    try:
        return locate("smollm2-135m")
    except EngineError as error:
        pytest.skip(str(error))


@pytest.mark.needs_model
@pytest.mark.parametrize("name", ["fast", "reference"])
@pytest.mark.parametrize("oracle", ORACLES)
def test_smollm2_has_the_logits_and_the_next_token_of_the_oracle(smollm2, oracle, name):
    prompt, ids, top = SMOLLM2
    assert opened(smollm2)[1].encode(prompt) == ids
    want = ORACLES[oracle](smollm2, tuple(ids))[-1]
    got = open_path(opened(smollm2)[0], name, capacity=len(ids)).forward(ids)
    assert got.shape == want.shape
    assert cosine(got, want) >= ENOUGH
    assert int(got.argmax()) == int(want.argmax()) == top


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("model", ["tiny-qwen2", "tiny-qwen2-f16"])
def test_llama_cpp_reads_the_same_ids_for_the_packaged_models(model, prompt):
    theirs = llama_cpp_of(locate(model))
    assert opened(locate(model))[1].encode(prompt) == theirs.tokenize(prompt.encode(), add_bos=True, special=True)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("model", ["tiny-qwen2", "tiny-qwen2-f16"])
def test_the_packaged_models_have_the_logits_of_the_oracle_at_every_position(model, oracle, prompt):
    path = locate(model)
    ids = tuple(opened(path)[1].encode(prompt))
    want = ORACLES[oracle](path, ids)
    for name in ("reference", "fast"):
        got = our_logits(path, ids, name)
        assert got.shape == want.shape
        worst = min(cosine(a, b) for a, b in zip(got, want, strict=True))
        assert worst >= ENOUGH, name


@pytest.mark.parametrize("prompt", PROMPTS)
def test_on_float_weights_the_reference_path_and_transformers_agree_to_float32(prompt):
    """No quantised activation on either side: a wrong epsilon, pairing or bias would show."""
    path = locate("tiny-qwen2-f16")
    ids = tuple(opened(path)[1].encode(prompt))
    got, want = our_logits(path, ids, "reference"), transformers_logits(path, ids)
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()
    assert np.array_equal(got.argmax(axis=1), want.argmax(axis=1))
