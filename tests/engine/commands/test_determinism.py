"""Tests of `apr determinism`: with a defect planted, without, and with bad input."""

import json
import sys
from collections import Counter

import pytest

from engine import determinism
from engine.cells import PREFILL, planned
from engine.commands.determinism import PROMPT
from engine.gguf import read_gguf
from engine.registry import locate, sha256_file
from engine.tokenizer import Tokenizer
from engine.variants import KV_CACHES, available, chosen
from engine.warmup import compile_kernels

TINY = locate("tiny-qwen2")
TOKENS = list(range(5, 23))


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    compile_kernels({"Q4_K", "Q6_K"}, lambda line: None)


DEFECT = """
import sys
import numba, numpy as np
from engine import cells
from engine.fast import FastPath

normalise = FastPath.normalise

def shared_out(self, b, delta, gain, into):
    normalise(self, b, delta, gain, into)
    if numba.get_num_threads() == 3 and len(b.x) > 1 and self.position == 0:
        into.x[1, 2] = np.nextafter(into.x[1, 2], np.float32(np.inf))

FastPath.normalise = shared_out
sys.exit(cells.main())
"""


@pytest.fixture
def few(monkeypatch):
    """The matrix has only the cells that a condition holds for: a process takes a second."""

    def settled(condition):
        monkeypatch.setattr(determinism, "planned", lambda: [cell for cell in planned() if condition(cell)])

    return settled


def test_a_defect_is_named_down_to_the_value(apr, few, monkeypatch, tmp_path):
    """With three threads, one bit of one value of the norms is another: the first norm is where it starts."""
    few(lambda cell: cell.threads != 2 and cell.mode == PREFILL and cell.chunk in (None, 1))
    (tmp_path / "child.py").write_text(DEFECT)
    monkeypatch.setattr(determinism, "CHILD", (sys.executable, str(tmp_path / "child.py")))
    ids = ",".join(map(str, TOKENS))
    code, out, err = apr("determinism", TINY, "--tokens", ids, "--variant", chosen(), "--json")
    assert (code, err) == (1, "apr: cells: 8, processes: 2, tokens: 18\n")
    told = json.loads(out)
    assert (told["verdict"], told["sha256"], told["planned"], told["measured"]) == ("different", None, 8, 8)
    assert told["tokens"] == TOKENS
    kinds = Counter((cell["threads"] == 3 and cell["chunk"] != 1, cell["sha256"]) for cell in told["cells"])
    assert sorted(kinds.values()) == [2, 6]
    first = told["first"]
    assert (first["a"]["stage"], first["b"]["stage"], first["layer"]) == ("attn_norm", "attn_norm", 0)
    assert 3 in (first["a"]["threads"], first["b"]["threads"])
    assert first["again"]["coordinate"] == [1, 2]
    assert abs(int(first["again"]["a_bits"], 16) - int(first["again"]["b_bits"], 16)) == 1


def test_first_ends_with_the_difference(apr, few, monkeypatch, tmp_path):
    """As above, and on 3 threads the fourth cell is the first to differ: of a prompt in one piece."""
    few(lambda cell: cell.threads != 2 and cell.mode == PREFILL)
    (tmp_path / "child.py").write_text(DEFECT)
    monkeypatch.setattr(determinism, "CHILD", (sys.executable, str(tmp_path / "child.py")))
    ids = ",".join(map(str, TOKENS))
    told = {}
    for options in ([], ["--first"]):
        code, out, _ = apr("determinism", TINY, "--tokens", ids, "--variant", chosen(), "--json", *options)
        assert code == 1
        told[bool(options)] = json.loads(out)
    assert (told[False]["planned"], told[False]["measured"]) == (16, 16)
    assert (told[True]["planned"], told[True]["verdict"]) == (16, "different")
    (left,) = told[True]["not_run"]
    assert (left["reason"], left["failed"]) == ("two others differ already", False)
    assert told[True]["measured"] == 16 - len(left["cells"]) < 16
    assert told[True]["cells"] == told[False]["cells"][: told[True]["measured"]]
    assert told[True]["first"]["again"]["coordinate"] == [1, 2]


def test_the_command_is_green_for_the_packaged_model(apr, few):
    few(lambda cell: cell.threads == 2)
    code, out, err = apr("determinism", "--variant", chosen(), "--json")
    assert (code, err) == (0, "apr: cells: 16, processes: 1, tokens: 19\n")
    told = json.loads(out)
    assert (told["verdict"], told["planned"], told["measured"], told["not_run"]) == ("equal", 16, 16, [])
    assert {cell["sha256"] for cell in told["cells"]} == {told["sha256"]}
    assert told["model"] == {
        "name": "tiny-qwen2", "architecture": "qwen2", "file": str(TINY), "sha256": sha256_file(TINY)
    }  # fmt: skip


def test_kv_cache_is_what_every_cell_has(apr, few):
    few(lambda cell: cell.threads == 2)
    found = {}
    for kind in KV_CACHES:
        code, out, _ = apr("determinism", "--variant", chosen(), "--kv-cache", kind, "--json")
        told = json.loads(out)
        assert (code, told["kv_cache"], told["measured"]) == (0, kind, 16)
        found[kind] = told["sha256"]
    assert found["float16"] != found["float32"]
    few(lambda cell: cell.threads == 2 and cell.chunk is None)
    assert apr("determinism", "--variant", chosen())[1].startswith("tiny-qwen2; tokens: 19; float32 cache\n")


def test_model_and_prompt_are_what_is_run(apr, monkeypatch):
    monkeypatch.setattr(determinism, "CHILD", ("false",))

    def told(*options):
        return json.loads(apr("determinism", *options, "--json")[1])

    for name in ("tiny-qwen2", "tiny-qwen2-f16"):
        assert told(name, "--tokens", "5")["model"]["file"] == str(locate(name))
    encoded = Tokenizer.from_gguf(read_gguf(TINY)).encode
    assert told("--prompt", "not the default")["tokens"] == encoded("not the default")
    assert told()["tokens"] == encoded(PROMPT)
    assert told("--tokens", " 5, 17 ,99")["tokens"] == [5, 17, 99]


def test_processes_that_fail_are_exit_code_2(apr, monkeypatch):
    monkeypatch.setattr(determinism, "CHILD", ("false",))
    code, out, _ = apr("determinism")
    assert code == 2
    assert out.count("failed: ") == 3 * len(available())
    assert out.endswith(": its process ended with 1\nnot measured: 0 of 144 cells measured, 72 tensors each\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tokens", "5,x"], "--tokens: 'x' is no token of the model\n  hint: write ids below 2048: 5,17,99\n"),
        (["--tokens", "5²"], "--tokens: '5²' is no token of the model\n  hint: write ids below"),
        (["--tokens", ""], "--tokens: '' is no token of the model\n  hint: write ids below 2048: 5,17,99\n"),
        (["--tokens", "5,2048"], "--tokens: '2048' is no token of the model\n  hint: write ids below"),
        (["--tokens", "-1"], "--tokens: '-1' is no token of the model\n  hint: write ids below"),
        (["--tokens", ",".join(["1"] * 513)], "--tokens: the prompt has 513 tokens, the model's context is 512\n"),
        (["--prompt", ""], "--prompt: the prompt has no tokens\n"),
        (["--variant", "avx9"], "--variant: unknown variant 'avx9'\n"),
        (["--kv-cache", "float8"], "--kv-cache: unknown kind of cache 'float8'\n  hint: one of: float32, float16\n"),
        (["none.gguf"], "none.gguf: no such file"),
    ],
)
def test_bad_input_is_one_error(apr, options, message):
    code, out, err = apr("determinism", *options)
    assert (code, out) == (2, "")
    assert err.startswith(f"apr: {message}")
    assert "Traceback" not in err
