"""Tests of `apr floor`: each flag, and every input that is refused."""

import json
import os
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from engine import oracles
from engine.errors import EngineError
from engine.floor import PROMPTS
from engine.opening import sha256_of
from engine.registry import locate
from engine.stages import NAMES
from tests.engine.test_floor import Fake

PROMPTS_HINT = "name a text file in UTF-8 with a prompt in each line"


@pytest.fixture
def prompts():
    """A short prompt in a file, in the folder of the command."""
    Path("prompts.txt").write_text("\n  \nA b\n")
    return "prompts.txt"


def floor(apr, *arguments):
    code, out, err = apr("floor", "tiny-qwen2", *arguments)
    assert code == 0, err
    return out, err


def test_model_and_prompts_are_what_is_measured(apr, prompts):
    Path(prompts).write_text("A b\n\n  \nWhat is 2+2?\n")
    out, err = floor(apr, "--prompts", prompts, "--json")
    assert err == "apr: prompt 1 of 2: 2 tokens\napr: prompt 2 of 2: 9 tokens\n"
    found = json.loads(out)
    assert found["model"] == {
        "name": "tiny-qwen2",
        "sha256": sha256_of(locate("tiny-qwen2")),
        "architecture": "qwen2",
    }
    assert [prompt["text"] for prompt in found["prompts"]] == ["A b", "What is 2+2?"]
    assert [len(prompt["tokens"]) for prompt in found["prompts"]] == [2, 9]
    assert (found["package"], found["numpy"]) == (version("pv-contracts"), version("numpy"))
    assert {(row["a"], row["b"]) for row in found["rows"]} == {(a, "float64") for a in ("float32", "float16", "int8")}
    assert {row["stage"] for row in found["rows"]} == set(NAMES)
    at = {(row["a"], row["kind"], row["stage"]): row["nmse"]["max"] for row in found["rows"]}
    assert 1e-5 < at["int8", "cumulative", "ffn_out"] < 1e-2
    assert 1e-9 < at["float16", "cumulative", "ffn_out"] < 1e-5
    assert 1e-15 < at["float32", "cumulative", "ffn_out"] < 1e-11


def test_output_is_written_the_same_again_and_printed_from_the_file(apr, prompts):
    out, err = floor(apr, "--prompts", prompts, "--output", "floor.json")
    assert err.endswith("apr: written to floor.json\n")
    assert len(out.split("\n\n")) == 4
    first = Path("floor.json").read_bytes()
    assert apr("floor", "floor.json") == (0, out, "")
    floor(apr, "--prompts", prompts, "--output", "floor.json")
    assert Path("floor.json").read_bytes() == first
    code, shown, _ = apr("floor", "floor.json", "--json")
    assert (code, json.loads(shown)) == (0, json.loads(first))
    assert sorted(os.listdir()) == ["floor.json", "prompts.txt"]


def test_the_default_prompts_differ_and_fit_the_packaged_model():
    assert len(set(PROMPTS)) == 7
    assert not [prompt for prompt in PROMPTS if not 5 < len(prompt) < 80]


def test_oracles_are_measured_where_they_are_asked_for(apr, prompts, monkeypatch):
    opened = []

    class Closing(Fake):
        def close(self):
            opened.remove(self)

    def open_oracle(name, place, **options):
        from engine.opening import open_model

        oracle = Closing(open_model(place).model, options.get("dtype", "float32"), ("attn_scores",))
        oracle.name, oracle.engine = name, f"{name} 1.0"
        opened.append(oracle)
        return oracle

    monkeypatch.setattr(oracles, "open_oracle", open_oracle)
    flags = ("--oracle", "transformers:bfloat16", "--oracle", "llama-cpp")
    out, _ = floor(apr, "--prompts", prompts, *flags, "--output", "floor.json")
    assert opened == []
    found = json.loads(Path("floor.json").read_bytes())
    assert found["oracles"] == [
        {"engine": "transformers 1.0", "missing": ["attn_scores"], "name": "transformers", "variant": "bfloat16"},
        {"engine": "llama-cpp 1.0", "missing": ["attn_scores"], "name": "llama-cpp", "variant": "float32"},
    ]
    pairs = {(row["a"], row["b"]) for row in found["rows"] if " " in row["a"]}
    one, two = "transformers bfloat16", "llama-cpp float32"
    assert pairs == {(one, two), (one, "float64"), (two, "float64")}
    assert "\ntransformers bfloat16: transformers 1.0\nllama-cpp float32: llama-cpp 1.0\n" in out
    assert apr("floor", "floor.json") == (0, out, "")
    code, _, err = apr("floor", "tiny-qwen2", "--prompts", prompts, "--oracle", "llama-cpp", "--oracle", "llama-cpp")
    assert (code, opened) == (2, [])
    assert err == "apr: --oracle: llama-cpp float32 is asked for twice\n  hint: name it once\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompts", "none.txt"], f"none.txt: no such file\n  hint: {PROMPTS_HINT}\n"),
        (["--prompts", "."], f".: is not a regular file\n  hint: {PROMPTS_HINT}\n"),
        (["--prompts", ""], f"--prompts: the name of the file is empty\n  hint: {PROMPTS_HINT}\n"),
        (["--prompts", "empty.txt"], "empty.txt: holds no prompt\n  hint: write one in each line\n"),
        (["--prompts", "latin.txt"], f"latin.txt: offset 3: is not UTF-8\n  hint: {PROMPTS_HINT}\n"),
        (["--prompts", "long.txt"], "long.txt:2: the prompt has "),
        (["--output", ""], "--output: the name of the file is empty\n  hint: name one\n"),
        (["--output", "."], "--output .: is a folder, not a regular file\n"),
        (["--output", "pipe"], "--output pipe: is a named pipe, not a regular file\n"),
        (["--output", "no/where.json"], "--output no/where.json: there is no folder no\n"),
        (
            ["--oracle", "llama-cpp:f16"],
            "--oracle: llama-cpp chooses its types by itself\n  hint: write llama-cpp alone\n",
        ),
        (["--oracle", "pytorch"], "--oracle: unknown oracle 'pytorch'\n  hint: known: transformers, llama-cpp"),
        (["--oracle", ""], "--oracle: unknown oracle ''\n  hint: known: transformers, llama-cpp"),
    ],
)
def test_what_cannot_be_measured_is_one_error_and_leaves_no_file(apr, arguments, message):
    Path("empty.txt").write_text(" \n\n")
    os.mkfifo("pipe")
    Path("latin.txt").write_bytes(b"caf\xe9")
    Path("long.txt").write_text("a\n" + "a b c d " * 300 + "\n")
    before = sorted(os.listdir())
    code, out, err = apr("floor", "tiny-qwen2", "--output", "floor.json", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"apr: {message}")
    assert len(err.splitlines()) <= 2
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("flag", ["--prompts", "--oracle", "--output", "--check"])
def test_a_floor_that_is_measured_already_takes_no_flag_of_measuring(apr, flag):
    code, out, err = apr("floor", "floor.json", flag, "x")
    assert (code, out) == (2, "")
    what = "NAME" if flag == "--oracle" else "FILE"
    assert err == (
        f"apr: {flag}: a floor that is measured already is only printed\n"
        f"  hint: to measure, name the model: apr floor MODEL {flag} {what}\n"
    )


@pytest.fixture
def kept(apr, prompts):
    """A stored floor of the packaged model."""
    floor(apr, "--prompts", prompts, "--output", "kept.json")
    return Path("kept.json")


def edit(path, change):
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def doubled(document):
    row = next(row for row in document["rows"] if (row["a"], row["kind"], row["stage"]) == KEY)
    row["rms_ratio"]["max"] *= 2


KEY = ("int8", "isolated", "ffn_out")


def test_a_stored_floor_is_measured_again_and_a_doubled_number_is_found(apr, kept):
    told = "kept.json holds: 0 of 1146 numbers differ from those measured again\n"
    assert apr("floor", "tiny-qwen2", "--check", kept) == (0, told, "apr: prompt 1 of 1: 2 tokens\n")
    was = next(
        r["rms_ratio"]["max"] for r in json.loads(kept.read_bytes())["rows"] if (r["a"], r["kind"], r["stage"]) == KEY
    )
    edit(kept, doubled)
    code, out, _ = apr("floor", "tiny-qwen2", "--check", kept)
    assert (code, out) == (
        1,
        "kept.json no longer holds: 1 of 1146 numbers differ from those measured again\n"
        f"  int8 against float64, isolated, ffn_out: rms_ratio max: {2 * was:g}, and again {was:g}; "
        "allowed is a factor of 1.0101\n",
    )
    code, out, _ = apr("floor", "tiny-qwen2", "--check", kept, "--json")
    assert (code, json.loads(out)) == (
        1,
        {
            "schema": "apr-floor-check/1",
            "holds": False,
            "undecided": False,
            "numbers": 1146,
            "same_sums": True,
            "prompts": [],
            "model": [],
            "notes": [],
            "groups": [
                {
                    "name": f"{a} {kind}",
                    "numbers": 191,
                    "tight": True,
                    "largest": 2.0 if (a, kind) == KEY[:2] else 1.0,
                    "allowed": 1.0101,
                }
                for a in ("float32", "float16", "int8")
                for kind in ("cumulative", "isolated")
            ],
            "different": [
                {
                    "what": "int8 against float64, isolated, ffn_out: rms_ratio max",
                    "stored": 2 * was,
                    "again": was,
                    "allowed": 1.0101,
                }
            ],
        },
    )
    assert sorted(os.listdir()) == ["kept.json", "prompts.txt"]


def test_a_floor_that_another_engine_measured_no_longer_holds(apr, kept, monkeypatch):
    from engine import arithmetic

    honest = arithmetic.to_int8
    monkeypatch.setattr(arithmetic, "to_int8", lambda x, block: honest(x, block) + 1e-3 * x)
    code, out, _ = apr("floor", "tiny-qwen2", "--check", kept)
    assert code == 1
    lines = out.splitlines()
    assert len(lines) == 10
    assert all("int8" in line for line in lines[1:9])
    assert lines[9].endswith(" more: --json has all")


def scaled(a, factor):
    def change(document):
        for row in document["rows"]:
            if row["a"] == a:
                for name in ("nmse", "rms_ratio", "max_abs_over_max"):
                    row[name] = {key: value * factor for key, value in row[name].items()}
                row["layers"] = [value * factor for value in row["layers"]]

    return change


def test_where_numpy_sums_otherwise_the_check_says_what_it_could_hold(apr, kept):
    edit(kept, lambda document: document.update(sums="f" * 16))
    edit(kept, scaled("float32", 8))
    code, out, _ = apr("floor", "tiny-qwen2", "--check", kept)
    first = "kept.json holds, but not all of it tightly: 0 of 1146 numbers differ from those measured again"
    assert (code, out.splitlines()) == (
        0,
        [
            f"{first}, where numpy sums in another order",
            "  held tightly: 191 numbers of float16 isolated, largest factor 1, allowed 1.1",
            "  held tightly: 191 numbers of int8 cumulative, largest factor 1, allowed 1.0101",
            "  held tightly: 191 numbers of int8 isolated, largest factor 1, allowed 1.0101",
            "  held loosely: 191 numbers of float32 cumulative, largest factor 8, allowed 16",
            "  held loosely: 191 numbers of float32 isolated, largest factor 8, allowed 16",
            "  held loosely: 191 numbers of float16 cumulative, largest factor 1, allowed 16",
        ],
    )
    edit(kept, scaled("float32", 4))
    code, out, _ = apr("floor", "tiny-qwen2", "--check", kept)
    first, *rest = out.splitlines()
    assert code == 2
    assert first.startswith("kept.json could not be held tightly: numpy sums in another order here, and ")
    assert first.endswith(" of 1146 numbers differ: measure it again here")
    assert "  held loosely: 191 numbers of float32 isolated, largest factor 32, allowed 16" in rest
    edit(kept, doubled)
    code, out, _ = apr("floor", "tiny-qwen2", "--check", kept)
    assert (code, out[:27]) == (1, "kept.json no longer holds: ")


def test_a_floor_that_says_another_model_no_longer_holds_and_other_versions_are_noted(apr, kept):
    edit(kept, lambda document: document.update(numpy="9.9"))
    code, out, _ = apr("floor", "tiny-qwen2", "--check", kept)
    holds = "kept.json holds: 0 of 1146 numbers differ from those measured again\n"
    note = f"note: numpy: 9.9 in the file, {version('numpy')} today\n"
    assert (code, out) == (0, holds + note)
    edit(kept, lambda document: document["model"].update(name="else", architecture="llama"))
    code, out, _ = apr("floor", "tiny-qwen2", "--check", kept)
    model = "  the model's name: else in the file, tiny-qwen2 today\n"
    model += "  the model's architecture: llama in the file, qwen2 today\n"
    assert (code, out) == (1, holds.replace("holds", "no longer holds") + model + note)


def test_prompts_that_are_other_tokens_today_are_told_and_nothing_is_measured(apr, kept):
    edit(kept, lambda document: document["prompts"][0].update(tokens=[1, 2, 3]))
    told = "kept.json no longer holds: its prompts 1 have other tokens today; nothing was measured\n"
    assert apr("floor", "tiny-qwen2", "--check", kept) == (1, told, "")
    code, out, _ = apr("floor", "tiny-qwen2", "--check", kept, "--json")
    assert (code, json.loads(out)["prompts"], json.loads(out)["numbers"]) == (1, [1], 0)


def test_a_stored_floor_is_checked_with_the_oracles_that_it_was_measured_with(apr, prompts, monkeypatch):
    asked = []

    def open_oracle(name, place, **options):
        from engine.opening import open_model

        asked.append((name, options))
        oracle = Fake(open_model(place).model, options.get("dtype", "float32"))
        oracle.name = name
        return oracle

    monkeypatch.setattr(oracles, "open_oracle", open_oracle)
    flags = ("--oracle", "transformers:bfloat16", "--oracle", "llama-cpp")
    floor(apr, "--prompts", prompts, *flags, "--output", "kept.json")
    code, out, _ = apr("floor", "tiny-qwen2", "--check", "kept.json")
    lines = out.splitlines()
    assert (code, lines[0]) == (0, "kept.json holds: 0 of 1719 numbers differ from those measured again")
    assert [line.split()[1] for line in lines[1:]] == ["tightly:"] * 6 + ["loosely:"] * 3
    assert lines[8].split(" of ")[1] == "transformers bfloat16 cumulative, largest factor 1, allowed 16"
    assert asked == 2 * [("transformers", {"dtype": "bfloat16"}), ("llama-cpp", {})]


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (
            lambda document: document["model"].update(sha256="ab" * 32),
            [],
            "kept.json: was measured on another model, tiny-qwen2, sha256 abababababab..\n  hint: name that one; tiny-",
        ),
        (lambda document: document.pop("sums"), [], "kept.json: the key 'sums' is missing\n  hint: measure it again"),
        (lambda document: document["rows"].pop(), [], "kept.json: 1 of 120 rows are missing, first int8 float64 "),
        (None, ["--prompts", "prompts.txt"], "--prompts: a stored floor is measured again as it was\n  hint: leave"),
        (None, ["--oracle", "llama-cpp"], "--oracle: a stored floor is measured again as it was\n  hint: leave"),
        (None, ["--output", "new.json"], "--output: a stored floor is measured again as it was\n  hint: leave"),
        (None, ["--check", "none.json"], "none.json: cannot be read: No such file or directory\n  hint: name a file "),
        (None, ["--check", "."], ".: is no file\n  hint: name a file that `apr floor MODEL --output FILE` wrote"),
        (None, ["--check", ""], ".: is no file\n  hint: name a file that `apr floor MODEL --output FILE` wrote"),
        (None, ["--check", "prompts.txt"], "prompts.txt: not JSON: "),
    ],
)
def test_what_cannot_be_checked_is_one_error(apr, kept, change, arguments, message):
    if change is not None:
        edit(kept, change)
    code, out, err = apr("floor", "tiny-qwen2", "--check", kept, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"apr: {message}")
    assert len(err.splitlines()) == 2
    assert sorted(os.listdir()) == ["kept.json", "prompts.txt"]


def test_a_named_pipe_is_no_floor_and_is_not_waited_for(apr):
    os.mkfifo("floor.json")
    assert apr("floor", "floor.json")[2].startswith("apr: floor.json: is no file\n  hint: name a file")


def test_a_file_that_is_no_floor_is_one_error(apr):
    Path("floor.json").write_text("{}")
    code, out, err = apr("floor", "floor.json")
    assert (code, out) == (2, "")
    assert err == (
        "apr: floor.json: the format is None, not 'apr-floor/1'\n"
        "  hint: measure it again with `apr floor MODEL --output FILE`\n"
    )


def test_an_interrupted_measurement_leaves_the_file_of_before(apr, prompts, monkeypatch):
    from engine import floor as module

    Path("floor.json").write_text("of before")

    def broken(*_):
        raise EngineError("no")

    monkeypatch.setattr(module, "measure_floor", broken)
    assert apr("floor", "tiny-qwen2", "--prompts", prompts, "--output", "floor.json")[0] == 2
    assert Path("floor.json").read_text() == "of before"


@pytest.mark.parametrize("dtype", ["int4", ""])
def test_a_dtype_that_an_oracle_lacks_is_told_at_the_flag_that_names_it(apr, prompts, dtype):
    pytest.importorskip("transformers")
    pytest.importorskip("torch")
    code, out, err = apr("floor", "tiny-qwen2", "--prompts", prompts, "--oracle", f"transformers:{dtype}")
    assert (code, out) == (2, "")
    assert err == f"apr: --oracle: unknown dtype {dtype!r}\n  hint: one of: float32, float16, bfloat16\n"


def test_transformers_in_float32_errs_no_more_than_float32(apr, prompts):
    pytest.importorskip("transformers")
    pytest.importorskip("torch")
    out, _ = floor(apr, "--prompts", prompts, "--oracle", "transformers:float32", "--json")
    found = json.loads(out)
    (oracle,) = found["oracles"]
    assert (oracle["name"], oracle["variant"], oracle["missing"]) == ("transformers", "float32", [])
    at = {(row["a"], row["stage"]): row["nmse"]["max"] for row in found["rows"] if row["kind"] == "cumulative"}
    over = {stage: at["transformers float32", stage] / (at["float32", stage] + 1e-14) for stage in NAMES}
    assert np.median(list(over.values())) <= 2
    for stage, times in over.items():  # a softmax near 1 is mostly 0 besides: one sample of few entries
        assert times <= (8 if stage == "attn_softmax" else 4), stage
    assert at["transformers float32", "ffn_out"] > 1e-14


def test_llama_cpp_errs_by_what_honest_int8_errs_by(apr, prompts):
    """An independent engine that rounds activations likewise: what is measured as honest is what it does."""
    pytest.importorskip("llama_cpp")
    out, _ = floor(apr, "--prompts", prompts, "--oracle", "llama-cpp", "--json")
    found = json.loads(out)
    label = f"llama-cpp {found['oracles'][0]['variant']}"
    at = {(row["a"], row["stage"]): row["nmse"]["max"] for row in found["rows"] if row["kind"] == "cumulative"}
    given = set(NAMES) - set(found["oracles"][0]["missing"])
    assert len(given) >= 16
    for stage in given:
        assert at[label, stage] == pytest.approx(at["int8", stage], rel=0.02, abs=1e-12), stage
