import subprocess
import sys

import numpy as np
import pytest

from engine import bench
from engine.commands import open_with_tokenizer
from engine.errors import EngineError
from engine.kernels import probe


def test_what_a_token_reads_is_all_but_the_embedding():
    model, _ = open_with_tokenizer("tiny-qwen2")
    read = bench.weights_read(model)
    of_layers = {layer.down.raw.ctypes.data for layer in model.layers}
    assert len(read) == 7 * len(model.layers) + 1
    assert of_layers < {part.ctypes.data for part in read}
    assert read[-1].nbytes == model.output.raw.nbytes


def test_the_probe_reads_every_byte():
    """Whole 256s: the sum of all of them as int32, which a byte that is left out would change."""
    arrays = [np.random.default_rng(3).integers(0, 256, size, np.uint8) for size in (4096, 1024, 256)]
    parts = probe.parts_of(arrays, 2048)
    assert parts[:, 1].tolist() == [2048, 2048, 1024, 256]
    out = np.zeros((4, 16), np.int32)
    probe.read(parts, out)
    want = np.concatenate(arrays).view(np.int32)
    assert int(out.astype(np.int64).sum()) % 2**32 == int(want.astype(np.int64).sum()) % 2**32


def test_a_spread_has_median_lowest_and_highest():
    assert bench.summary({"load_s": [3.0, 1.0, 2.0]}) == {"load_s": {"median": 2.0, "low": 1.0, "high": 3.0}}


def test_peak_memory_is_that_of_the_process_itself():
    """A child that does nothing has not the peak of its parent, as getrusage would say."""
    held = np.ones(50_000_000)
    code = "from engine.bench import peak_bytes; import sys; sys.stdout.write(str(peak_bytes()))"
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert 1e6 < child < bench.peak_bytes()
    assert bench.peak_bytes() > held.nbytes


def test_a_peer_that_fails_is_one_line(tmp_path):
    plan = bench.Plan(prompt=1, decoded=1, rounds=1, threads=1)
    with pytest.raises(EngineError, match=r"llama.cpp could not be measured: \w+Error: "):
        bench.beside(tmp_path / "none.gguf", plan)
