"""Tests of `apr bisect`: what it is told, what it says, and the story of a fault behind a check that fails silently."""

import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from engine import oracles
from engine.cli import main
from engine.commands.bisect import DEFAULT_PROMPT
from engine.errors import EngineError
from engine.fast import FastPath
from engine.gguf import read_gguf
from engine.model import read_model
from engine.opening import open_model
from engine.reference import ReferencePath
from engine.registry import locate
from engine.stages import NAMES
from tests.engine.bisecting import FakeOracle, product_scaled, replaced, untraced_is_reference
from tests.engine.model_files import keys, tensors, write

PROMPT = "hello there"
KEYS = [
    "schema", "engine", "verdict", "exit_code", "subject", "oracle", "prompt", "tokens", "tokens_differ", "decisive",
    "computed", "stages", "defects", "suspects", "findings", "missing", "not_tested", "notes", "cost", "rows", "replay",
]  # fmt: skip


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    return tmp_path_factory.mktemp("bisect")


@pytest.fixture(scope="session")
def model(files):
    """Quantised; one channel of the attention's norm is far above the others, as in many real models."""
    weights = tensors("qwen2")
    for index in range(2):
        weights[f"blk.{index}.attn_norm.weight"][[0, 40]] = 40.0
    return str(write(files / "model.gguf", keys("qwen2"), weights, "Q8_0"))


@pytest.fixture(scope="session")
def folder(files, model):
    assert main(["trace", model, "--save-tensor", "all", "--prompt", PROMPT, "--output", str(files / "stages")]) == 0
    return str(files / "stages")


def told(capsys, *args, code=0, form="--json"):
    got = main(["bisect", *args, *([form] if form else [])])
    out = capsys.readouterr().out
    assert got == code, out[:3000]
    return json.loads(out) if form == "--json" else out


def refused(capsys, *args):
    assert main(["bisect", *args]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_subject_alone_is_the_fast_path_against_the_reference(capsys, model):
    found = told(capsys, model, "--prompt", PROMPT, "--threads", "1")
    assert list(found) == KEYS
    assert (found["schema"], found["verdict"], found["exit_code"]) == ("apr-bisect/1", "WITHIN_FLOOR", 0)
    assert (found["subject"]["path"], found["oracle"]["path"]) == ("fast", "reference")
    assert found["subject"]["pieces"] == [len(found["tokens"]) - 2, 1, 1]
    assert found["stages"] == {"expected": 37, "subject": 37, "oracle": 37, "compared": 37}
    assert found["tokens"] == list(PROMPT.encode())
    assert len(found["rows"]) == 37
    assert found["subject"]["model"]["sha256"] == found["oracle"]["model"]["sha256"]


def test_oracle_names_the_other_side(capsys, model):
    found = told(capsys, f"{model}@reference", f"{model}@fast", "--prompt", PROMPT)
    assert (found["subject"]["path"], found["oracle"]["path"], found["verdict"]) == (
        "reference",
        "fast",
        "WITHIN_FLOOR",
    )


def test_a_side_beside_itself_says_that_it_tests_determinism_alone(capsys, model):
    found = told(capsys, model, f"{model}@fast", "--prompt", PROMPT)
    assert (found["verdict"], found["not_tested"]) == ("EQUAL", ["a side beside itself tests determinism alone"])
    first, *_ = told(capsys, model, f"{model}@fast", "--prompt", PROMPT, form=None).splitlines()
    assert first == "EQUAL: every bit of 37 stages; a side beside itself tests determinism alone"


def test_paths_of_one_model_say_what_they_share(capsys, model, tmp_path):
    line = "what both sides share: the reader, the configuration, the tokenizer; an oracle of another engine tests them"
    assert told(capsys, model, "--prompt", PROMPT)["not_tested"] == [line]
    page = tmp_path / "page.html"
    lines = told(capsys, model, "--prompt", PROMPT, "--report", str(page), form=None).splitlines()
    assert f"not tested {line}" in lines
    assert f"<dt>not tested</dt><dd>{line}</dd>" in page.read_text()


def test_a_prompt_of_one_token_leaves_kernels_out(capsys, model):
    text = told(capsys, model, "--prompt", "h", form=None)
    assert "; 1 token\n" in text
    assert "not tested the fast path's kernels for several tokens at once: " in text


def test_prompt_is_what_runs(capsys, model):
    assert told(capsys, model, "--prompt", "What is 2+2?")["tokens"] == list(b"What is 2+2?")


@pytest.mark.parametrize("name", ["tiny-qwen2", "smollm2-135m"])
def test_default_prompt_reaches_past_two_vectors_of_positions(name):
    try:
        place = locate(name)
    except EngineError as error:
        pytest.skip(str(error))
    assert len(open_model(place).tokenizer.encode(DEFAULT_PROMPT)) > 32


def test_threads_variant_and_kv_cache_are_those_of_the_fast_path(capsys, model):
    found = told(capsys, model, "--prompt", PROMPT, "--threads", "1", "--variant", _variant(), "--kv-cache", "float16")
    subject = found["subject"]
    assert (subject["threads"], subject["variant"], subject["kv_cache"]) == (1, _variant(), "float16")
    assert found["replay"].endswith(f"--threads 1 --variant {_variant()} --kv-cache float16")


def _variant():
    from engine.variants import chosen

    return chosen()


def test_the_text_begins_with_the_verdict_and_ends_with_a_line_that_replays_it(capsys, model):
    lines = told(capsys, model, "--prompt", PROMPT, form=None).splitlines()
    assert lines[0] == "WITHIN_FLOOR: 37 of 37 stages compared, none above what honest arithmetic errs by"
    assert lines[-1].startswith("replay    apr bisect ")
    again = shlex.split(lines[-1].removeprefix("replay    apr bisect "))
    assert told(capsys, *again, form=None).splitlines() == lines


def test_the_story(capsys, model):
    """The reference is right, and rounding takes the attention block below the practised cosine; one kernel of the
    fast path is wrong, and its own check falls back without a word. One command tells all of it."""
    with product_scaled("down", 1, 1.03), untraced_is_reference():
        text = told(capsys, model, "--prompt", PROMPT, form=None, code=1)
        found = told(capsys, model, "--prompt", PROMPT, code=1)
    first = text.splitlines()[0]
    assert first == f"DIVERGES: {model}@fast: 1 defect: ffn_out of layer 1; silent-fallback"
    (defect,), (finding,) = found["defects"], found["findings"]
    assert (defect["stage"], defect["layer"], defect["isolated"], defect["repaired"]) == ("ffn_out", 1, True, True)
    assert finding["kind"] == "silent-fallback"
    assert "the path claims fast, but its logits without a trace are those of the reference path" in text
    practised = next(row for row in found["rows"] if row["cumulative"]["cosine"] < 0.999)
    assert practised["stage"] in ("attn_scores", "attn_softmax", "attention", "attn_out")
    assert not any(one["stage"] == practised["stage"] for one in found["defects"])
    assert f"from {practised['stage']} of layer {practised['layer']} on" in "".join(found["notes"])
    assert "is floor, not a defect" in text
    assert f"subject   {model}@fast: path fast, variant " in text


def test_report_is_a_page_written_in_one_step(capsys, model, tmp_path):
    page = tmp_path / "report.html"
    with product_scaled("down", 1, 1.03):
        told(capsys, model, "--prompt", PROMPT, "--report", str(page), form=None, code=1)
    text = page.read_text()
    assert "DIVERGES" in text
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]


def test_the_page_takes_the_place_of_what_a_link_leads_to(capsys, model, tmp_path):
    (tmp_path / "page.html").write_text("old")
    (tmp_path / "link.html").symlink_to("page.html")
    told(capsys, model, "--prompt", PROMPT, "--report", str(tmp_path / "link.html"), form=None)
    assert (tmp_path / "link.html").is_symlink()
    assert "WITHIN_FLOOR" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("", "apr: --report: the name of the file is empty\n  hint: name one\n"),
        ("no/where.html", "apr: --report no/where.html: there is no folder no\n  hint: make it first\n"),
        (".", "apr: --report .: is a folder, not a regular file\n  hint: name a file that may be replaced\n"),
        ("pipe", "apr: --report pipe: is a named pipe, not a regular file\n  hint: name a file that may be replaced\n"),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_before_anything_runs(capsys, monkeypatch, tmp_path, name, error):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    assert refused(capsys, "no-such-model", "--report", name) == error


def test_a_folder_is_an_oracle(capsys, model, folder):
    found = told(capsys, model, folder)
    assert (found["verdict"], found["prompt"], found["oracle"]["path"]) == ("EQUAL", PROMPT, "fast")
    with product_scaled("attn_out", 0, 1.1):
        found = told(capsys, model, folder, code=1)
    assert [(one["stage"], one["layer"]) for one in found["defects"]] == [("attn_out", 0)]


def test_a_folder_as_the_subject_is_looked_into_and_never_convicted(capsys, model, folder, files):
    assert told(capsys, folder, f"{model}@reference")["verdict"] == "WITHIN_FLOOR"
    with product_scaled("attn_out", 0, 1.1):
        main(["trace", model, "--save-tensor", "all", "--prompt", PROMPT, "--output", str(files / "wrong")])
    capsys.readouterr()
    found = told(capsys, str(files / "wrong"), f"{model}@reference", code=2)
    assert (found["verdict"], found["defects"]) == ("CANNOT_TELL", [])
    assert [(one["stage"], one["layer"]) for one in found["suspects"]] == [("attn_out", 0)]
    assert found["cost"]["subject"] == {"forwards": 0, "stage_evaluations": 0}


def stages(capsys, model, folder, which="all", path="fast"):
    """The folder of a trace."""
    given = ["--save-tensor", which, "--prompt", PROMPT, "--output", str(folder), "--path", path]
    assert main(["trace", model, *given]) == 0
    capsys.readouterr()
    return str(folder)


def test_two_folders_have_no_floor(capsys, model, folder, tmp_path):
    again = stages(capsys, model, tmp_path / "again")
    assert told(capsys, folder, again)["verdict"] == "EQUAL"
    text = told(capsys, folder, again, form=None)
    assert "logits    every bit is the same on both sides; without a model at hand, no more is measured of them" in text
    other = stages(capsys, model, tmp_path / "r", path="reference")
    found = told(capsys, folder, other, code=2)
    assert found["missing"] == ["a model: without one, no error can stand beside a floor"]
    assert "logits    other bits on the two sides; without a model" in told(capsys, folder, other, form=None, code=2)


def test_two_equal_folders_of_some_stages_lack_the_others_and_no_floor(capsys, model, tmp_path):
    a, b = (stages(capsys, model, tmp_path / name, "attn_out") for name in "ab")
    text = told(capsys, a, b, form=None, code=2)
    assert "logits    not compared: lm_head is not in the subject nor in the oracle\n" in text
    assert told(capsys, a, b, code=2)["missing"] == [
        "35 of 37 stages, first embedding of layer 0, not in the subject nor in the oracle: capture them all",
        "the oracle's or the subject's lm_head: what follows attn_out of layer 1 was not compared",
    ]


def test_a_folder_beside_itself_is_refused(capsys, folder):
    error = refused(capsys, folder, folder + "/.")
    assert error.startswith(f"apr: {folder}: both sides are this folder: nothing would be tested\n  hint: ")


@pytest.fixture(scope="session")
def twin(files, model):
    """A model of the same sizes and other weights."""
    return str(write(files / "twin.gguf", keys("qwen2"), tensors("qwen2"), "Q8_0"))


def test_a_folder_of_another_model_is_refused_by_its_sha256(capsys, model, folder, twin, tmp_path):
    of_twin = stages(capsys, twin, tmp_path / "twin")
    for sides in ((twin, folder), (folder, f"{twin}@reference"), (folder, of_twin)):
        error = refused(capsys, *sides)
        assert error.startswith(f"apr: {folder}: its stages are of another model: sha256 ")
        assert error.endswith("..\n  hint: name the model that was traced, or trace this one\n")


def test_two_models_are_named_as_two(capsys, model, files):
    """The same weights in another file: nothing differs but that."""
    copy = files / "copy.gguf"
    copy.write_bytes(Path(model).read_bytes() + bytes(32))
    found = told(capsys, model, f"{copy}@reference", "--prompt", PROMPT)
    assert found["verdict"] == "WITHIN_FLOOR"
    assert found["notes"][-1].startswith("the sides run two models, of sha256 ")
    assert told(capsys, model, "--prompt", PROMPT)["notes"] == found["notes"][:-1]


def manifest(folder, **fields):
    """The folder with other values in its manifest; None takes one out."""
    file = Path(folder, "manifest.json")
    document = {**json.loads(file.read_text()), **fields}
    file.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))
    return str(folder)


def test_a_folder_of_an_oracle_lacks_what_it_could_not_give(capsys, model, tmp_path):
    given = ",".join(stage for stage in NAMES if stage != "ffn_silu")
    folder = stages(capsys, model, tmp_path / "theirs", given)
    assert told(capsys, model, folder, code=2)["verdict"] == "CANNOT_TELL"
    manifest(folder, path="llama-cpp", variant="cpu", kv_cache=None, missing=["ffn_silu"])
    found = told(capsys, model, folder)
    assert (found["verdict"], found["stages"]["compared"], found["missing"]) == ("WITHIN_FLOOR", 35, [])
    assert found["oracle"]["missing"] == ["ffn_silu"]
    assert "the tokenizer (`apr oracle` runs our tokens)" in found["not_tested"][0]


def test_what_ran_is_seen_where_the_oracle_has_the_logits_alone(capsys, model, tmp_path):
    folder = stages(capsys, model, tmp_path / "logits", "lm_head", "reference")
    found = told(capsys, model, folder, code=2)
    assert found["computed"].endswith(f"of {3 * 13 - 2} products int8 in {3 * 13 - 2}")
    assert (found["verdict"], found["findings"]) == ("CANNOT_TELL", [])

    def forward(self, tokens, tap=None, chunk=None):
        if not self.position:
            self.instead = ReferencePath(self.model)
        self.position += len(tokens)
        return self.instead.forward(tokens, tap)

    with replaced(FastPath, "forward", lambda _: forward):
        found = told(capsys, model, folder, code=1)
    assert [one["kind"] for one in found["findings"]] == ["silent-fallback"]
    text = "\n".join(one["text"] for one in found["findings"])
    assert "the path claims fast" in text


def test_other_tokens_of_an_oracle_are_a_defect_and_its_tokens_are_run(capsys, model, monkeypatch):
    right = [*PROMPT.encode(), 256]
    fake = FakeOracle(read_model(read_gguf(Path(model))), ids=right)
    monkeypatch.setattr(oracles, "open_oracle", lambda name, place, **options: fake)
    found = told(capsys, model, f"{model}@transformers", "--prompt", PROMPT, code=1)
    assert found["tokens_differ"] == {"position": 11, "subject": None, "oracle": 256, "lengths": [11, 12]}
    assert [one["stage"] for one in found["defects"]] == ["tokens"]
    assert found["tokens"] == right
    assert found["stages"]["compared"] == 37


def test_dtype_of_transformers_is_passed_on_and_the_oracle_is_closed(capsys, model, monkeypatch):
    seen = {}
    fake = FakeOracle(read_model(read_gguf(Path(model))), ids=list(PROMPT.encode()))

    def open_oracle(name, place, **options):
        seen.update(options, name=name)
        return fake

    monkeypatch.setattr(oracles, "open_oracle", open_oracle)
    told(capsys, model, f"{model}@transformers:float32", "--prompt", PROMPT)
    assert seen == {"name": "transformers", "dtype": "float32"}
    assert fake.closed


@pytest.mark.parametrize("flag", [("--threads", "1"), ("--variant", "avx2"), ("--kv-cache", "float16")])
def test_flags_of_the_fast_path_need_one(capsys, model, flag):
    reference = f"{model}@reference"
    assert f"{flag[0]}: is of the fast path, and no side is one" in refused(capsys, reference, reference, *flag)


def test_flags_and_prompts_are_refused_before_another_side_is_opened(capsys, model, monkeypatch):
    def opened(*_, **__):
        raise AssertionError("an oracle was opened")

    monkeypatch.setattr(oracles, "open_oracle", opened)
    assert "--threads: 0 threads asked for" in refused(capsys, model, f"{model}@transformers", "--threads", "0")
    assert "--variant: unknown variant" in refused(capsys, model, f"{model}@transformers", "--variant", "sse")
    assert "--kv-cache: unknown kind" in refused(capsys, model, f"{model}@transformers", "--kv-cache", "int8")
    assert "--prompt: the prompt has no tokens" in refused(capsys, model, f"{model}@transformers", "--prompt", "")
    error = refused(capsys, model, f"{model}@transformers", "--prompt", "x" * 33)
    assert error == "apr: --prompt: the prompt has 33 tokens, the model's context is 32\n  hint: shorten it\n"
    assert refused(capsys, model).startswith("apr: --prompt (the default): the prompt has ")


def test_wrong_sides_are_one_error(capsys, model, folder, files):
    assert "unknown engine 'fats'" in refused(capsys, "tiny-qwen2@fats")
    assert "the name of a side is empty" in refused(capsys, model, "")
    assert "the name of a side is empty" in refused(capsys, "")
    assert "nothing to compare it with" in refused(capsys, folder)
    assert "nothing to compare it with" in refused(capsys, f"{model}@reference")
    assert f"its prompt is {PROMPT!r}, not 'other'" in refused(capsys, model, folder, "--prompt", "other")
    assert "the prompt has no tokens" in refused(capsys, model, "--prompt", "")
    llama = str(write(files / "llama.gguf", keys("llama"), tensors("llama"), "Q8_0"))
    assert "other models: architecture is qwen2" in refused(capsys, model, f"{llama}@reference")
    assert "the stages are of a qwen2 model" in refused(capsys, llama, folder)


def test_two_folders_of_other_prompts_are_refused(capsys, model, folder, files):
    main(["trace", model, "--save-tensor", "all", "--prompt", "another", "--output", str(files / "another")])
    capsys.readouterr()
    assert "its prompt is 'another', not 'hello there'" in refused(capsys, folder, str(files / "another"))


def keys_in(value):
    """Every key of JSON values, however deep."""
    if isinstance(value, list):
        return {key for item in value for key in keys_in(item)}
    return {*value, *(key for item in value.values() for key in keys_in(item))} if isinstance(value, dict) else set()


def test_the_page_of_commands_names_every_key_of_the_json(capsys, model, folder, monkeypatch):
    text = (Path(__file__).parents[3] / "docs" / "commands.md").read_text()
    section = text.partition("## apr bisect: ")[2].partition("\n## ")[0].partition("schema apr-bisect/1:")[2]
    rows = [line.removeprefix("| ").split(" | ", 1) for line in section.splitlines() if line.startswith("| ")][1:]
    told_of = {key: set(re.findall(r"\w+", text)) for head, text in rows for key in head.split(", ")}
    assert sorted(told_of) == sorted(KEYS)
    fake = FakeOracle(read_model(read_gguf(Path(model))), missing=("ffn_silu",), ids=[*PROMPT.encode(), 256])
    monkeypatch.setattr(oracles, "open_oracle", lambda name, place, **options: fake)
    with product_scaled("attn_out", 0, 1.1), untraced_is_reference():
        live = told(capsys, model, f"{model}@transformers", "--prompt", PROMPT, code=1)
        kept = told(capsys, model, folder, code=1)
    assert live["defects"][1:]
    assert live["findings"]
    for found in (live, kept):
        for key, value in found.items():
            assert keys_in(value) - told_of[key] == set(), key


def test_numbers_that_are_not_finite_are_text_in_json(capsys, files):
    weights = tensors("qwen2")
    weights["output_norm.weight"][:] = np.nan
    broken = str(write(files / "nan.gguf", keys("qwen2"), weights, "Q8_0"))
    found = told(capsys, broken, "--prompt", PROMPT, code=2)
    assert found["verdict"] == "CANNOT_TELL"
    assert found["decisive"]["kl"] == "nan"
