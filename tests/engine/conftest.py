"""What the tests of `apr` share."""

import json

import pytest

from engine import aprt
from engine.cli import main
from engine.trace_folder import read_manifest
from engine.warmup import compile_kernels
from tests.engine.model_files import keys, tensors, write


@pytest.fixture(scope="session")
def compiled():
    """No command of a test has to say that it compiles first."""
    compile_kernels({"F16", "F32", "Q8_0", "Q4_K", "Q6_K"}, lambda line: None)


@pytest.fixture
def apr(capsys, monkeypatch, tmp_path, compiled):
    """Runs a command in an empty folder and gives (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        done = capsys.readouterr()
        return code, done.out, done.err

    return call


@pytest.fixture(scope="session")
def small(tmp_path_factory, compiled):
    """A model of two layers with random weights, whose context is 32 and whose tokens are bytes."""
    folder = tmp_path_factory.mktemp("models")
    return str(write(folder / "small.gguf", keys("qwen2"), tensors("qwen2"), "Q8_0"))


@pytest.fixture
def answer(apr):
    """The JSON object of `apr run`."""

    def call(*arguments):
        code, out, err = apr("run", *arguments, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    return call


@pytest.fixture
def traced(apr, tmp_path):
    """The manifest of `apr trace --save-tensor lm_head` with these arguments, and its logits."""

    def call(*arguments):
        code, out, _ = apr("trace", *arguments, "--save-tensor", "lm_head", "--output", "t")
        assert (code, out) == (0, "1 tensors in t\n")
        return read_manifest(tmp_path / "t"), aprt.read_tensor(tmp_path / "t/lm_head.bin").values.copy()

    return call
