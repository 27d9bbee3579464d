"""Tests of engine.oracles.fit on a real engine; what it refuses is tested in test_proof and test_oracle."""

import numpy as np
import pytest

from engine.model import read_model
from engine.opening import open_file
from engine.oracles import fit, llama_cpp
from engine.oracles.fit import MisfitError, fitting
from tests.engine.model_files import keys, tensors, write

TOKENS = (72, 101, 108, 108, 111, 33, 72, 33)


@pytest.mark.parametrize("quantise", ["Q4_0", "Q4_1", "Q5_1", "Q8_0"])
def test_scales_of_activations_in_float16_are_honest_where_one_entry_outweighs_all_others(
    tmp_path, quantise, monkeypatch
):
    pytest.importorskip("llama_cpp", reason="llama_cpp is not installed (extra `llama-cpp`)")
    weights = tensors("llama")
    for layer in range(2):
        gain = weights[f"blk.{layer}.ffn_norm.weight"]
        gain *= np.float32(1e-4)
        gain[7] = 100
    path = write(tmp_path / "model.gguf", keys("llama"), weights, quantise)
    model, oracle = read_model(open_file(path)), llama_cpp.open_model(path)
    try:
        assert np.abs(fitting(oracle, model, TOKENS)["ffn_norm", 0]).max() > 20
        monkeypatch.setattr(fit, "_scaled", lambda *_: {})
        with pytest.raises(MisfitError, match=r"ffn_(gate|up|out) of layer \d is not what its inputs give"):
            fitting(oracle, model, TOKENS)
    finally:
        oracle.close()
