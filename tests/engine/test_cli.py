"""Tests of engine.cli: every command and flag, exit codes, error texts, and no traceback for bad input."""

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import engine.fast
from engine import aprt, cli, hashing, stages, warmup
from engine.cli import build_parser, main
from engine.formats import FORMATS
from engine.kernels import prepared
from engine.registry import locate
from engine.trace_folder import read_manifest
from engine.variants import KV_CACHES, available, chosen
from engine.warmup import compile_kernels
from tests.engine.commands import test_bench as bench
from tests.engine.commands import test_bisect as bisect
from tests.engine.commands import test_determinism as determinism
from tests.engine.commands import test_floor as floor
from tests.engine.commands import test_oracle as oracle
from tests.engine.commands import test_quantize as quantize
from tests.engine.commands import test_synth as synth
from tests.engine.model_files import keys, tensors, write

APR = Path(sys.executable).parent / "apr"
TEXT = "Return a list of the"  # the packaged model goes on for some tokens


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A model of two layers with random weights, whose context is 32 and whose tokens are bytes."""
    folder = tmp_path_factory.mktemp("models")
    return str(write(folder / "small.gguf", keys("qwen2"), tensors("qwen2"), "Q8_0"))


@pytest.fixture(scope="session", autouse=True)
def _compiled():
    """No command has to say that it compiles first."""
    compile_kernels({"F16", "F32", "Q8_0", "Q4_K", "Q6_K"}, lambda line: None)


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


# ---------------------------------------------------------------- run


def test_the_streamed_text_is_the_text_of_the_json(apr, answer):
    for options in (["--max-tokens", 12], ["--max-tokens", 40, "--temperature", 3, "--seed", 5]):
        said = answer("--prompt", TEXT, *options)
        code, out, err = apr("run", "--prompt", TEXT, *options)
        assert (code, out) == (0, said["text"] + "\n")
        assert f"{len(said['prompt_tokens'])} prompt tokens, {len(said['tokens'])} generated" in err


def test_text_is_written_before_the_next_token_is_computed(monkeypatch, small):
    events = []
    forward = engine.fast.FastPath.forward

    def watched(self, tokens, tap=None):
        events.append("forward")
        return forward(self, tokens, tap)

    class Watched(io.StringIO):
        def write(self, text):
            events.append("text")
            return len(text)

        def flush(self):
            events.append("flush")

    monkeypatch.setattr(engine.fast.FastPath, "forward", watched)
    monkeypatch.setattr(sys, "stdout", Watched())
    assert main(["run", small, "--prompt", "hi", "--max-tokens", "3", "--temperature", "50"]) == 0
    told = re.findall("forward|flush", " ".join(events))
    assert told[:6] == ["forward", "flush"] * 3


def test_the_json_of_a_run_has_these_keys(answer):
    said = answer("--prompt", TEXT, "--max-tokens", 3)
    assert list(said) == [
        *(
            "schema",
            "model",
            "path",
            "variant",
            "kv_cache",
            "prompt",
            "prompt_tokens",
            "tokens",
            "text",
            "stop",
            "top_first",
        )
    ]
    assert (said["schema"], said["path"], said["variant"], said["prompt"]) == ("apr-run/1", "fast", chosen(), TEXT)
    assert said["model"]["architecture"] == "qwen2"
    assert said["model"]["file"] == str(locate("tiny-qwen2"))
    assert said["stop"] in ("length", "end")
    assert len(said["top_first"]) == 5
    assert said["top_first"][0]["token"] == said["tokens"][0]
    logits = [entry["logit"] for entry in said["top_first"]]
    assert logits == sorted(logits, reverse=True)


def test_the_last_line_says_which_path_served_and_why_it_ended(apr, small):
    _, _, err = apr("run", small, "--prompt", "hi", "--max-tokens", 2)
    served = rf"apr: path fast, variant {chosen()}, float32 cache, \d+ threads.*; "
    pattern = served + r"1 prompt tokens, 2 generated; --max-tokens reached\n"
    assert re.fullmatch(pattern, err)
    _, _, err = apr("run", small, "--prompt", "hi", "--max-tokens", 1, "--path", "reference")
    assert err.startswith("apr: path reference, variant numpy-float64; 1 prompt tokens, 1 generated; ")


def test_run_model_chooses_the_model(answer):
    packed, full = (answer(name, "--max-tokens", 1) for name in ("tiny-qwen2", "tiny-qwen2-f16"))
    assert packed["model"]["file"] != full["model"]["file"]
    assert packed["top_first"] != full["top_first"]
    assert answer("--max-tokens", 1) == packed
    assert answer(locate("tiny-qwen2"), "--max-tokens", 1) == packed


def test_run_prompt_is_what_is_continued(answer):
    assert answer("--max-tokens", 1)["prompt"] == "What is 2+2?"
    assert answer("--prompt", TEXT, "--max-tokens", 1)["prompt_tokens"] != answer("--max-tokens", 1)["prompt_tokens"]


def test_run_path_chooses_the_path(answer):
    fast, reference = (answer("--prompt", TEXT, "--max-tokens", 2, "--path", path) for path in ("fast", "reference"))
    assert (fast["path"], reference["path"]) == ("fast", "reference")
    assert fast["top_first"][0]["logit"] != reference["top_first"][0]["logit"]
    assert fast["top_first"][0]["logit"] == pytest.approx(reference["top_first"][0]["logit"], rel=0.1)


def test_run_threads_sets_their_number(apr, small):
    assert (
        f"{chosen()}, float32 cache, 1 threads"
        in apr("run", small, "--prompt", "hi", "--max-tokens", 1, "--threads", 1)[2]
    )


def test_run_max_tokens_limits_the_answer(answer, small):
    assert len(answer(small, "--prompt", "hi", "--max-tokens", 1)["tokens"]) == 1
    said = answer(small, "--prompt", "hi", "--max-tokens", 7)
    assert (len(said["tokens"]), said["stop"]) == (7, "length")


def test_run_temperature_top_k_top_p_and_seed_govern_the_choice(answer, small):
    def tokens(*options):
        return answer(small, "--prompt", "hi", "--max-tokens", 8, *options)["tokens"]

    greedy = tokens()
    hot = tokens("--temperature", 50)
    assert hot != greedy
    assert hot == tokens("--temperature", 50, "--seed", 0)
    assert hot != tokens("--temperature", 50, "--seed", 1)
    assert tokens("--temperature", 50, "--top-k", 1) == greedy
    assert tokens("--temperature", 50, "--top-p", 1e-6) == greedy


def test_run_chat_puts_the_prompt_into_the_model_s_template(answer, apr, tmp_path, small):
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<go>"
    path = write(tmp_path / "chat.gguf", keys("qwen2", tokenizer__chat_template=template), tensors("qwen2"))
    said = answer(path, "--prompt", "hey", "--chat", "--max-tokens", 1)
    assert said["prompt_tokens"] == list(b"<user>hey<go>")
    assert said["prompt"] == "hey"
    assert answer(path, "--prompt", "hey", "--max-tokens", 1)["prompt_tokens"] == list(b"hey")
    code, _, err = apr("run", small, "--chat")
    assert code == 2
    assert "the model has no chat template" in err


def test_a_run_ends_when_the_context_is_full(answer, small):
    said = answer(small, "--prompt", "x" * 30, "--max-tokens", 1000)
    assert (said["stop"], len(said["tokens"])) == ("context", 3)
    said = answer(small, "--prompt", "x" * 32, "--max-tokens", 1000)
    assert (said["stop"], len(said["tokens"])) == ("context", 1)


def test_logits_that_are_not_finite_are_an_error(apr, tmp_path):
    weights = tensors("qwen2")
    weights["output_norm.weight"][:] = np.nan
    path = write(tmp_path / "nan.gguf", keys("qwen2"), weights)
    for name in ("fast", "reference"):
        code, out, err = apr("run", path, "--prompt", "hi", "--path", name)
        assert (code, out) == (2, "")
        assert err.startswith("apr: 258 of 258 logits are not finite: there is no next token\n  hint: trace the stages")


# ---------------------------------------------------------------- trace


def test_trace_writes_what_is_selected(apr, tmp_path, small):
    code, out, err = apr("trace", small, "--save-tensor", "lm_head,FFN_Gate", "--prompt", "hi")
    assert (code, out) == (0, "3 tensors in small-trace\n")
    assert re.fullmatch(rf"apr: path fast, variant {chosen()}, float32 cache, \d+ threads.*; 1 tokens 256\n", err)
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert files == [
        f"small-trace/{name}"
        for name in ("layer-0/ffn_gate.bin", "layer-1/ffn_gate.bin", "lm_head.bin", "manifest.json")
    ]


def test_trace_all_writes_every_stage(apr, tmp_path, small):
    code, out, _ = apr("trace", small, "--save-tensor", "all", "--prompt", "hi", "--output", "t")
    assert (code, out) == (0, f"{1 + 2 * 17 + 2} tensors in t\n")
    assert {entry.stage for entry in read_manifest(tmp_path / "t").tensors} == set(stages.NAMES)


def test_the_manifest_says_where_the_tensors_come_from(traced, small):
    manifest, logits = traced(small, "--prompt", "hey", "--path", "reference")
    assert (manifest.engine, manifest.prompt, manifest.tokens) == (version("pv-contracts"), "hey", tuple(b"hey"))
    assert (manifest.path, manifest.variant) == ("reference", "numpy-float64")
    assert (manifest.model.name, manifest.model.architecture) == ("small-qwen2", "qwen2")
    assert logits.shape == (258,)


def test_trace_model_and_its_synonym_choose_the_model(apr, traced):
    packed, full = traced("tiny-qwen2")[0], traced("tiny-qwen2-f16")[0]
    assert packed.model.sha256 != full.model.sha256
    assert traced()[0] == packed
    assert traced("--payload", "tiny-qwen2-f16")[0] == full
    assert traced("tiny-qwen2-f16", "--payload")[0] == full
    answer = apr("trace", "a", "--payload", "b", "--save-tensor", "all")
    assert answer == (2, "", "apr: --payload: two models are named: a and b\n  hint: name one\n")


def test_trace_prompt_is_what_runs(traced, small):
    assert traced(small)[0].prompt == "What is 2+2?"
    assert traced(small, "--prompt", "hey")[0].tokens == tuple(b"hey")


def test_trace_path_chooses_the_path(traced, small):
    (fast, a), (reference, b) = (traced(small, "--path", path) for path in ("fast", "reference"))
    assert (fast.path, reference.path) == ("fast", "reference")
    assert a.tobytes() != b.tobytes()


@pytest.mark.parametrize("verb", ["run", "trace", "warmup"])
def test_variant_chooses_the_kernels(apr, small, verb, monkeypatch, tmp_path):
    monkeypatch.setattr(prepared, "FOLDER", str(tmp_path / f"{chosen()}-{'f' * 16}"))  # not the user's: warmup prunes
    rest = {"run": ["--max-tokens", 1], "trace": ["--save-tensor", "lm_head"], "warmup": []}[verb]
    code, out, err = apr(verb, small, *rest, "--variant", chosen())
    assert code == 0
    assert chosen() in out + err
    for other in set(available()) - {chosen()}:
        code, out, err = apr(verb, small, *rest, "--variant", other)
        assert (code, out) == (2, "")
        assert err.startswith(f"apr: --variant: the kernels of this process are {chosen()}\n")


@pytest.mark.parametrize("verb", ["run", "trace"])
def test_kv_cache_chooses_what_keys_and_values_are_kept_in(apr, small, monkeypatch, verb):
    kept = []
    forward = engine.fast.FastPath.forward
    monkeypatch.setattr(
        engine.fast.FastPath,
        "forward",
        lambda self, *args, **options: (
            kept.append((self.keys.dtype, self.values.dtype)) or forward(self, *args, **options)
        ),
    )
    rest = {"run": ["--max-tokens", 1], "trace": ["--save-tensor", "all", "--output", "t"]}[verb]
    for kind, options in (
        ("float32", []),
        ("float32", ["--kv-cache", "float32"]),
        ("float16", ["--kv-cache", "float16"]),
    ):
        code, _, err = apr(verb, small, *rest, *options)
        assert (code, kept.pop(), kept) == (0, (np.dtype(kind), np.dtype(kind)), [])
        assert f", {kind} cache, " in err
    assert apr(verb, small, *rest, "--kv-cache", "float8") == (
        2,
        "",
        "apr: --kv-cache: unknown kind of cache 'float8'\n  hint: one of: float32, float16\n",
    )
    for kind in KV_CACHES:
        assert apr(verb, small, *rest, "--kv-cache", kind, "--path", "reference") == (
            2,
            "",
            "apr: --kv-cache: the reference path keeps keys and values in float64\n  hint: leave it out\n",
        )


def test_a_run_and_a_trace_say_which_kind_of_cache_served(answer, traced, small):
    fast = answer(small, "--prompt", "hey", "--max-tokens", 1, "--kv-cache", "float16")
    assert fast["kv_cache"] == "float16"
    assert fast["top_first"] != answer(small, "--prompt", "hey", "--max-tokens", 1)["top_first"]
    assert answer(small, "--max-tokens", 1, "--path", "reference")["kv_cache"] is None
    (half, a), (single, b) = (traced(small, "--prompt", "hey", "--kv-cache", kind) for kind in ("float16", "float32"))
    assert (half.kv_cache, single.kv_cache) == ("float16", "float32")
    assert a.tobytes() != b.tobytes()
    assert traced(small, "--path", "reference")[0].kv_cache is None


def test_warmup_compiles_what_the_models_need_or_all_formats(apr, small, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(prepared, "FOLDER", str(folder_of_kernels(tmp_path, chosen(), "f")))  # not the user's
    monkeypatch.setattr(
        warmup, "compile_kernels", lambda names, tell, caches: asked.append((set(names), caches)) or len(asked)
    )
    assert re.fullmatch(
        rf"1 kernels compiled in \d+\.\d s, kept in .*{chosen()}-[0-9a-f]{{16}}\n", apr("warmup", small)[1]
    )
    assert apr("warmup")[1].startswith("2 kernels compiled")
    assert asked == [({"Q8_0"}, KV_CACHES), ({fmt.name for fmt in FORMATS.values()}, KV_CACHES)]
    code, out, err = apr("warmup", "nothing.gguf")
    assert (code, out) == (2, "")
    assert "nothing.gguf" in err


def folder_of_kernels(base, variant, digit, days=0):
    """A folder of 1234 bytes, named after sources and last used some days ago."""
    folder = base / f"{variant}-{digit * 16}"
    folder.mkdir()
    (folder / "steps.nbi").write_bytes(bytes(1234))
    for path in (folder / "steps.nbi", folder):
        os.utime(path, (time.time() - days * 24 * 3600,) * 2)
    return folder


def test_warmup_removes_what_other_versions_left_and_says_so(apr, small, monkeypatch, tmp_path):
    base = tmp_path / "kernels"
    base.mkdir()
    mine, *_ = stay = [
        folder_of_kernels(base, chosen(), "f", 99), folder_of_kernels(base, "generic", "f", 99),
        folder_of_kernels(base, "generic", "1", 29),
    ]  # fmt: skip
    gone = [folder_of_kernels(base, variant, "2", 31) for variant in ("generic", "avx2")]
    monkeypatch.setattr(prepared, "FOLDER", str(mine))
    code, out, _ = apr("warmup", small)
    assert code == 0
    assert out.splitlines()[1:] == [f"2 folders of other versions' kernels removed from {base}: 2,468 bytes"]
    assert [path.exists() for path in (*stay, *gone)] == [True] * 3 + [False] * 2
    assert len(apr("warmup", small)[1].splitlines()) == 1


def test_trace_threads_sets_their_number(apr, small):
    assert f"{chosen()}, float32 cache, 1 threads" in apr("trace", small, "--save-tensor", "lm_head", "--threads", 1)[2]


@pytest.mark.parametrize("flag", ["--output", "--save-tensor-dir"])
def test_trace_output_is_made_and_never_cleaned(apr, tmp_path, small, flag):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/old.txt").write_text("mine")
    for folder in ("kept", "new/deeper"):
        assert apr("trace", small, "--save-tensor", "lm_head", flag, folder)[0] == 0
        assert (tmp_path / folder / "lm_head.bin").stat().st_size == 12 + 4 * 258
    assert (tmp_path / "kept/old.txt").read_text() == "mine"


@pytest.mark.parametrize("flag", ["--layer", "--save-tensor-layers"])
def test_trace_layer_selects_layers_and_not_whole_model_stages(apr, tmp_path, small, flag):
    assert apr("trace", small, "--save-tensor", "attn_out,lm_head", flag, "1..2", "--output", "t")[0] == 0
    assert [(e.stage, e.layer) for e in read_manifest(tmp_path / "t").tensors] == [("attn_out", 1), ("lm_head", None)]


def test_a_bad_selection_is_refused_before_the_model_is_looked_for(apr):
    for stage in ("bogus", "", "lm_head,", "lm-head"):
        code, out, err = apr("trace", "no-such.gguf", "--save-tensor", stage)
        assert (code, out) == (2, "")
        assert "no-such" not in err
        assert all(name in err for name in stages.NAMES)
    for layer in ("2..2", "3..1", "1", "a..b", "-1..2", "0..-1", ""):
        code, _, err = apr("trace", "no-such.gguf", "--save-tensor", "all", f"--layer={layer}")
        assert (code, "no-such" in err) == (2, False)
        assert err.startswith("apr: --layer: ")


def test_layers_beyond_the_model_are_refused_and_nothing_is_written(apr, tmp_path, small):
    code, _, err = apr("trace", small, "--save-tensor", "all", "--layer", "1..3")
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert err == "apr: --layer: the model has 2 layers: 1..3 ends past them\n  hint: 0..2 names them all\n"


def test_an_embedding_without_layer_0_is_refused(apr, small):
    code, _, err = apr("trace", small, "--save-tensor", "embedding", "--layer", "1..2")
    assert code == 2
    assert "no tensor in the selected layers" in err


@pytest.mark.parametrize("folder", ["file", "file/below", "/proc/nowhere"])
def test_a_folder_that_cannot_be_made_is_an_error(apr, tmp_path, small, folder):
    (tmp_path / "file").write_text("mine")
    code, out, err = apr("trace", small, "--save-tensor", "lm_head", "--output", folder)
    assert (code, out) == (2, "")
    assert err.startswith(f"apr: {folder}: the folder cannot be made: ")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_tensor_file_that_cannot_be_written_is_an_error(apr, tmp_path, small):
    (tmp_path / "t/lm_head.bin").mkdir(parents=True)
    code, out, err = apr("trace", small, "--save-tensor", "lm_head", "--output", "t")
    assert (code, out) == (2, "")
    assert "t/lm_head.bin" in err
    assert not (tmp_path / "t/manifest.json").exists()


def test_a_model_that_vanishes_while_it_runs_is_one_error_and_leaves_no_folder(apr, tmp_path, small, monkeypatch):
    """The file is hashed beside the forward pass, here after it."""
    gone, hashed, forward = threading.Event(), hashing._sha256, engine.fast.FastPath.forward

    def late(*arguments):
        assert gone.wait(60)
        return hashed(*arguments)

    def losing(self, *arguments, **options):
        logits = forward(self, *arguments, **options)
        Path("lost.gguf").unlink()
        gone.set()
        return logits

    monkeypatch.setattr(hashing, "_sha256", late)
    monkeypatch.setattr(engine.fast.FastPath, "forward", losing)
    shutil.copy(small, tmp_path / "lost.gguf")
    threads = threading.active_count()
    code, out, err = apr("trace", "lost.gguf", "--save-tensor", "all", "--output", "new/deeper")
    told = "cannot be read: No such file or directory\n  hint: check its permissions and its disk\n"
    assert (code, out, err) == (2, "", f"apr: lost.gguf: {told}")
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == threads


def test_a_trace_that_fails_leaves_neither_a_folder_nor_a_thread(apr, tmp_path, small, monkeypatch):
    hashes = []
    monkeypatch.setattr(hashing, "_sha256", lambda path, identity, over: hashes.append(over.wait(60)))
    monkeypatch.setattr(engine.fast.FastPath, "logits", lambda self, b: (_ for _ in ()).throw(KeyboardInterrupt))
    threads = threading.active_count()
    assert apr("trace", small, "--save-tensor", "all")[0] == 130
    assert (list(tmp_path.iterdir()), hashes, threading.active_count()) == ([], [True], threads)


def test_the_manifest_names_the_sha256_of_the_file(traced, small):
    assert traced(small)[0].model.sha256 == sha256(Path(small).read_bytes()).hexdigest()


# ---------------------------------------------------------------- diff, inspect, pull


@pytest.fixture
def two_files(tmp_path):
    values = np.arange(20, dtype=np.float32)
    aprt.write_tensor(tmp_path / "a.bin", 3, values)
    values[[2, 9, 11]] += [0.5, 3, 1]
    aprt.write_tensor(tmp_path / "b.bin", 3, values)
    return tmp_path


def test_diff_exits_with_0_1_or_2(apr, two_files):
    assert apr("diff", "a.bin", "a.bin", "--values")[0] == 0
    code, out, err = apr("diff", "a.bin", "b.bin", "--values")
    assert (code, err) == (1, "")
    assert out
    aprt.write_tensor(two_files / "c.bin", 4, np.zeros(20, np.float32))
    assert apr("diff", "a.bin", "c.bin", "--values")[0] == 2
    code, out, _ = apr("diff", "a.bin", "missing.bin", "--values")
    assert code == 2
    assert "not comparable: missing.bin: no such file or folder" in out


def test_diff_limit_is_the_number_of_differences_listed(apr, two_files):
    sizes = [len(apr("diff", "a.bin", "b.bin", "--values", "--limit", n)[1].splitlines()) for n in (0, 1, 2)]
    assert sizes[0] < sizes[1] < sizes[2]
    code, _, err = apr("diff", "a.bin", "b.bin", "--values", "--limit", -1)
    assert (code, err) == (2, "apr: --limit: -1 differences cannot be listed\n  hint: 0 or more\n")


def test_diff_json_is_one_object(apr, two_files):
    report = json.loads(apr("diff", "a.bin", "b.bin", "--values", "--json")[1])
    assert report["schema"] == "apr-diff/1"


def test_diff_demands_to_be_told_what_it_compares(apr, two_files, capsys):
    with pytest.raises(SystemExit, match="2"):
        apr("diff", "a.bin", "b.bin")
    assert "--values" in capsys.readouterr().err


def test_inspect_as_text_and_as_json(apr, small):
    code, out, err = apr("inspect", small)
    assert (code, err) == (0, "")
    facts = json.loads(apr("inspect", small, "--json")[1])
    assert (facts["schema"], facts["file"]) == ("apr-inspect/1", small)
    assert out.startswith(f"{small}  GGUF v3, {facts['bytes']:,} bytes")
    assert json.loads(apr("inspect", "--json")[1])["file"] == str(locate("tiny-qwen2"))


def test_pull_of_a_packaged_model_says_so_and_of_an_unknown_one_is_an_error(apr):
    assert apr("pull", "tiny-qwen2") == (0, f"{locate('tiny-qwen2')}: is part of the package\n", "")
    code, out, err = apr("pull", "no-such")
    assert (code, out) == (2, "")
    assert err.startswith("apr: no-such: no registered model of that name\n  hint: registered: tiny-qwen2")


# ---------------------------------------------------------------- bad input


def damaged(folder, kind, small):
    """A path that is no model, and a part of the message that says why."""
    path = folder / f"{kind}.gguf"
    if kind == "missing":
        return path, "no such file, and no registered model of that name"
    if kind == "folder":
        path.mkdir()
        return path, "is a folder without config.json"
    if kind == "empty":
        path.touch()
        return path, "is empty"
    if kind == "text":
        path.write_text("# not a model\n")
        return path, "not a GGUF file: it starts with"
    content = Path(small).read_bytes()
    path.write_bytes(content[:-100] if kind == "cut" else content[:1000])
    return path, "bytes are missing" if kind == "cut" else "announced, but the rest of the file has room"


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "text", "cut", "header"])
@pytest.mark.parametrize("command", [["run"], ["trace", "--save-tensor", "all"], ["inspect"]], ids=lambda c: c[0])
def test_what_is_no_model_is_an_error_that_names_it(apr, tmp_path, small, command, kind):
    path, reason = damaged(tmp_path, kind, small)
    code, out, err = apr(command[0], path, *command[1:])
    assert (code, out) == (2, "")
    assert err.startswith(f"apr: {path}: ")
    assert reason in err
    assert "\n  hint: " in err


@pytest.mark.parametrize("command", ["run", "inspect"])
def test_a_file_that_may_not_be_read_is_an_error(apr, small, monkeypatch, command):
    def denied(self, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", denied)  # root may read anything
    code, out, err = apr(command, small)
    assert (code, out) == (2, "")
    assert err.startswith(f"apr: {small}: cannot be read: Permission denied\n  hint: check its permissions")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-tokens", "0"], "apr: --max-tokens: 0 tokens cannot be generated\n  hint: 1 or more\n"),
        (["--max-tokens", "-5"], "apr: --max-tokens: -5 tokens cannot be generated\n  hint: 1 or more\n"),
        (["--threads", "0"], "apr: --threads: 0 threads asked for\n  hint: 1 to "),
        (["--threads", "1000000"], "apr: --threads: 1000000 threads asked for\n  hint: 1 to "),
        (["--threads", "2", "--path", "reference"], "apr: --threads: the reference path runs on numpy's own threads\n"),
        (["--variant", "sse9"], "apr: --variant: unknown variant 'sse9'\n  hint: one of: avx512-vnni, avx2, generic\n"),
        (["--variant", "generic", "--path", "reference"], "apr: --variant: the reference path has no variants\n"),
        (["--prompt", ""], "apr: --prompt: the prompt has no tokens\n"),
        (["--prompt", "x" * 33], "apr: --prompt: the prompt has 33 tokens, the model's context is 32\n"),
        (["--prompt", "\udce9"], "apr: prompt: the text is not valid Unicode at character 0"),
        (["--temperature", "-1"], "apr: --temperature: -1.0 is not a temperature\n"),
        (["--temperature", "nan"], "apr: --temperature: nan is not a temperature\n"),
        (["--top-k", "-1"], "apr: --top-k: -1 tokens cannot be kept\n"),
        (["--top-p", "0"], "apr: --top-p: 0.0 is not a probability above 0\n"),
        (["--seed", "-1"], "apr: --seed: -1 is not a seed\n"),
    ],
    ids=" ".join,
)
def test_a_value_without_a_meaning_is_an_error(apr, small, arguments, message):
    code, out, err = apr("run", small, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(message)


@pytest.mark.parametrize(
    "arguments",
    [[], ["frobnicate"], ["run", "--threads", "x"], ["run", "--path", "gpu"], ["run", "a", "b"], ["trace"], ["pull"]],
    ids=" ".join,
)
def test_bad_usage_exits_with_2_and_shows_the_usage(apr, arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        apr(*arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: apr")


def test_an_interrupt_exits_with_130(apr, monkeypatch):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "open_with_tokenizer", interrupted)
    assert apr("run") == (130, "", "")


def test_an_error_of_our_own_keeps_its_traceback(apr, monkeypatch):
    def defective(name):
        raise FileNotFoundError(2, "No such file or directory", "inner.txt")

    monkeypatch.setattr(cli, "open_with_tokenizer", defective)
    with pytest.raises(FileNotFoundError, match=r"inner\.txt"):
        apr("run")


# ---------------------------------------------------------------- the installed command


def test_a_reader_that_goes_away_ends_the_command_quietly():
    with subprocess.Popen([APR, "inspect"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_an_error_without_a_traceback():
    with open("/dev/full", "w") as full:
        done = subprocess.run([APR, "inspect"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "apr: the output cannot be written: No space left on device\n")


def test_a_terminal_that_lacks_a_character_shows_its_escape(tmp_path, small):
    path = tmp_path / "größe.gguf"
    path.write_bytes(Path(small).read_bytes())
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for option, shown in (([], "gr\\xf6\\xdfe.gguf"), (["--json"], "größe.gguf")):
        done = subprocess.run([APR, "inspect", path, *option], capture_output=True, env=environment, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        text = done.stdout.decode("ascii")
        assert shown in (json.loads(text)["file"] if option else text)


# ---------------------------------------------------------------- the parser

COVERED = {
    ("run", "MODEL"): test_run_model_chooses_the_model,
    ("run", "--prompt"): test_run_prompt_is_what_is_continued,
    ("run", "--path"): test_run_path_chooses_the_path,
    ("run", "--threads"): test_run_threads_sets_their_number,
    ("run", "--variant"): test_variant_chooses_the_kernels,
    ("run", "--kv-cache"): test_kv_cache_chooses_what_keys_and_values_are_kept_in,
    ("run", "--max-tokens"): test_run_max_tokens_limits_the_answer,
    ("run", "--temperature"): test_run_temperature_top_k_top_p_and_seed_govern_the_choice,
    ("run", "--top-k"): test_run_temperature_top_k_top_p_and_seed_govern_the_choice,
    ("run", "--top-p"): test_run_temperature_top_k_top_p_and_seed_govern_the_choice,
    ("run", "--seed"): test_run_temperature_top_k_top_p_and_seed_govern_the_choice,
    ("run", "--chat"): test_run_chat_puts_the_prompt_into_the_model_s_template,
    ("run", "--json"): test_the_json_of_a_run_has_these_keys,
    ("trace", "MODEL"): test_trace_model_and_its_synonym_choose_the_model,
    ("trace", "--payload"): test_trace_model_and_its_synonym_choose_the_model,
    ("trace", "--save-tensor"): test_trace_writes_what_is_selected,
    ("trace", "--output"): test_trace_output_is_made_and_never_cleaned,
    ("trace", "--save-tensor-dir"): test_trace_output_is_made_and_never_cleaned,
    ("trace", "--layer"): test_trace_layer_selects_layers_and_not_whole_model_stages,
    ("trace", "--save-tensor-layers"): test_trace_layer_selects_layers_and_not_whole_model_stages,
    ("trace", "--prompt"): test_trace_prompt_is_what_runs,
    ("trace", "--path"): test_trace_path_chooses_the_path,
    ("trace", "--threads"): test_trace_threads_sets_their_number,
    ("trace", "--variant"): test_variant_chooses_the_kernels,
    ("trace", "--kv-cache"): test_kv_cache_chooses_what_keys_and_values_are_kept_in,
    ("warmup", "MODEL"): test_warmup_compiles_what_the_models_need_or_all_formats,
    ("warmup", "--variant"): test_variant_chooses_the_kernels,
    ("diff", "A"): test_diff_exits_with_0_1_or_2,
    ("diff", "B"): test_diff_exits_with_0_1_or_2,
    ("diff", "--values"): test_diff_demands_to_be_told_what_it_compares,
    ("diff", "--limit"): test_diff_limit_is_the_number_of_differences_listed,
    ("diff", "--json"): test_diff_json_is_one_object,
    ("inspect", "MODEL"): test_inspect_as_text_and_as_json,
    ("inspect", "--json"): test_inspect_as_text_and_as_json,
    ("bench", "MODEL"): bench.test_every_measure_is_reported_with_its_spread,
    ("bench", "--prompt"): bench.test_every_measure_is_reported_with_its_spread,
    ("bench", "--tokens"): bench.test_every_measure_is_reported_with_its_spread,
    ("bench", "--rounds"): bench.test_every_measure_is_reported_with_its_spread,
    ("bench", "--threads"): bench.test_every_measure_is_reported_with_its_spread,
    ("bench", "--variant"): bench.test_every_measure_is_reported_with_its_spread,
    ("bench", "--kv-cache"): bench.test_kv_cache_is_measured_and_named,
    ("bench", "--json"): bench.test_every_measure_is_reported_with_its_spread,
    ("bench", "--vs-llama-cpp"): bench.test_llama_cpp_stands_beside,
    ("bisect", "SUBJECT"): bisect.test_subject_alone_is_the_fast_path_against_the_reference,
    ("bisect", "ORACLE"): bisect.test_oracle_names_the_other_side,
    ("bisect", "--prompt"): bisect.test_prompt_is_what_runs,
    ("bisect", "--threads"): bisect.test_threads_variant_and_kv_cache_are_those_of_the_fast_path,
    ("bisect", "--variant"): bisect.test_threads_variant_and_kv_cache_are_those_of_the_fast_path,
    ("bisect", "--kv-cache"): bisect.test_threads_variant_and_kv_cache_are_those_of_the_fast_path,
    ("bisect", "--json"): bisect.test_subject_alone_is_the_fast_path_against_the_reference,
    ("bisect", "--report"): bisect.test_report_is_a_page_written_in_one_step,
    ("determinism", "MODEL"): determinism.test_model_and_prompt_are_what_is_run,
    ("determinism", "--tokens"): determinism.test_model_and_prompt_are_what_is_run,
    ("determinism", "--prompt"): determinism.test_model_and_prompt_are_what_is_run,
    ("determinism", "--variant"): determinism.test_the_command_is_green_for_the_packaged_model,
    ("determinism", "--first"): determinism.test_first_ends_with_the_difference,
    ("determinism", "--kv-cache"): determinism.test_kv_cache_is_what_every_cell_has,
    ("determinism", "--json"): determinism.test_a_defect_is_named_down_to_the_value,
    ("floor", "MODEL"): floor.test_model_and_prompts_are_what_is_measured,
    ("floor", "--prompts"): floor.test_model_and_prompts_are_what_is_measured,
    ("floor", "--oracle"): floor.test_oracles_are_measured_where_they_are_asked_for,
    ("floor", "--output"): floor.test_output_is_written_the_same_again_and_printed_from_the_file,
    ("floor", "--json"): floor.test_model_and_prompts_are_what_is_measured,
    ("oracle", "ORACLE"): oracle.test_an_oracle_that_does_not_exist_is_a_usage_error,
    ("oracle", "MODEL"): oracle.test_model_and_prompt_are_what_is_run,
    ("oracle", "--output"): oracle.test_the_folder_is_that_of_a_trace,
    ("oracle", "--prompt"): oracle.test_model_and_prompt_are_what_is_run,
    ("oracle", "--dtype"): oracle.test_dtype_is_handed_to_the_oracle_and_named,
    ("oracle", "--save-tensor"): oracle.test_save_tensor_and_layer_select,
    ("oracle", "--layer"): oracle.test_save_tensor_and_layer_select,
    ("quantize", "IN"): quantize.test_in_and_out_name_the_files,
    ("quantize", "OUT"): quantize.test_in_and_out_name_the_files,
    ("quantize", "--type"): quantize.test_type_chooses_the_formats,
    ("quantize", "--threads"): quantize.test_threads_are_how_many_convert,
    ("synth", "--like"): synth.test_like_and_quant_choose_the_shapes_and_the_formats,
    ("synth", "--quant"): synth.test_like_and_quant_choose_the_shapes_and_the_formats,
    ("synth", "--seed"): synth.test_the_seed_governs_the_bytes,
    ("synth", "OUT"): synth.test_the_file_that_is_written_runs_and_is_inspected,
    ("pull", "NAME"): test_pull_of_a_packaged_model_says_so_and_of_an_unknown_one_is_an_error,
}
"""The test in which each flag changes something."""


def subcommands():
    (action,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return action.choices


def test_every_flag_of_the_parser_is_covered_by_a_test():
    found = set()
    for name, parser in subcommands().items():
        for action in parser._actions:
            if not isinstance(action, argparse._HelpAction):
                found |= {(name, option) for option in action.option_strings or [action.metavar]}
    assert found == set(COVERED)


def test_every_flag_has_a_help_text_that_is_shown(capsys):
    for name, parser in subcommands().items():
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        shown = capsys.readouterr().out
        for action in parser._actions:
            assert action.help
            assert all(option in shown for option in action.option_strings)


def test_the_version_is_that_of_the_distribution(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"apr {version('pv-contracts')}\n"
