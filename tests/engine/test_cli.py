"""Tests of engine.cli: every command and flag, exit codes, error texts, and no traceback for bad input."""

import argparse
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import engine.fast
from engine import cli
from engine.cli import build_parser, main
from engine.kernels import prepared
from engine.variants import KV_CACHES, available, chosen
from tests.engine.commands import (
    test_bench,
    test_bisect,
    test_determinism,
    test_diff,
    test_floor,
    test_inspect,
    test_oracle,
    test_pull,
    test_quantize,
    test_run,
    test_synth,
    test_trace,
    test_warmup,
)

APR = Path(sys.executable).parent / "apr"
TEXT = "Return a list of the"  # the packaged model goes on for some tokens


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

    monkeypatch.setattr(cli.run, "open_with_tokenizer", interrupted)
    assert apr("run") == (130, "", "")


def test_an_error_of_our_own_keeps_its_traceback(apr, monkeypatch):
    def defective(name):
        raise FileNotFoundError(2, "No such file or directory", "inner.txt")

    monkeypatch.setattr(cli.run, "open_with_tokenizer", defective)
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
    ("run", "MODEL"): test_run.test_run_model_chooses_the_model,
    ("run", "--prompt"): test_run.test_run_prompt_is_what_is_continued,
    ("run", "--path"): test_run.test_run_path_chooses_the_path,
    ("run", "--threads"): test_run.test_run_threads_sets_their_number,
    ("run", "--variant"): test_variant_chooses_the_kernels,
    ("run", "--kv-cache"): test_kv_cache_chooses_what_keys_and_values_are_kept_in,
    ("run", "--max-tokens"): test_run.test_run_max_tokens_limits_the_answer,
    ("run", "--temperature"): test_run.test_run_temperature_top_k_top_p_and_seed_govern_the_choice,
    ("run", "--top-k"): test_run.test_run_temperature_top_k_top_p_and_seed_govern_the_choice,
    ("run", "--top-p"): test_run.test_run_temperature_top_k_top_p_and_seed_govern_the_choice,
    ("run", "--seed"): test_run.test_run_temperature_top_k_top_p_and_seed_govern_the_choice,
    ("run", "--chat"): test_run.test_run_chat_puts_the_prompt_into_the_model_s_template,
    ("run", "--json"): test_run.test_the_json_of_a_run_has_these_keys,
    ("trace", "MODEL"): test_trace.test_trace_model_and_its_synonym_choose_the_model,
    ("trace", "--payload"): test_trace.test_trace_model_and_its_synonym_choose_the_model,
    ("trace", "--save-tensor"): test_trace.test_trace_writes_what_is_selected,
    ("trace", "--output"): test_trace.test_trace_output_is_made_and_never_cleaned,
    ("trace", "--save-tensor-dir"): test_trace.test_trace_output_is_made_and_never_cleaned,
    ("trace", "--layer"): test_trace.test_trace_layer_selects_layers_and_not_whole_model_stages,
    ("trace", "--save-tensor-layers"): test_trace.test_trace_layer_selects_layers_and_not_whole_model_stages,
    ("trace", "--prompt"): test_trace.test_trace_prompt_is_what_runs,
    ("trace", "--path"): test_trace.test_trace_path_chooses_the_path,
    ("trace", "--threads"): test_trace.test_trace_threads_sets_their_number,
    ("trace", "--variant"): test_variant_chooses_the_kernels,
    ("trace", "--kv-cache"): test_kv_cache_chooses_what_keys_and_values_are_kept_in,
    ("warmup", "MODEL"): test_warmup.test_warmup_compiles_what_the_models_need_or_all_formats,
    ("warmup", "--variant"): test_variant_chooses_the_kernels,
    ("diff", "A"): test_diff.test_diff_exits_with_0_1_or_2,
    ("diff", "B"): test_diff.test_diff_exits_with_0_1_or_2,
    ("diff", "--values"): test_diff.test_diff_demands_to_be_told_what_it_compares,
    ("diff", "--limit"): test_diff.test_diff_limit_is_the_number_of_differences_listed,
    ("diff", "--json"): test_diff.test_diff_json_is_one_object,
    ("inspect", "MODEL"): test_inspect.test_inspect_as_text_and_as_json,
    ("inspect", "--json"): test_inspect.test_inspect_as_text_and_as_json,
    ("bench", "MODEL"): test_bench.test_every_measure_is_reported_with_its_spread,
    ("bench", "--prompt"): test_bench.test_every_measure_is_reported_with_its_spread,
    ("bench", "--tokens"): test_bench.test_every_measure_is_reported_with_its_spread,
    ("bench", "--rounds"): test_bench.test_every_measure_is_reported_with_its_spread,
    ("bench", "--threads"): test_bench.test_every_measure_is_reported_with_its_spread,
    ("bench", "--variant"): test_bench.test_every_measure_is_reported_with_its_spread,
    ("bench", "--kv-cache"): test_bench.test_kv_cache_is_measured_and_named,
    ("bench", "--json"): test_bench.test_every_measure_is_reported_with_its_spread,
    ("bench", "--vs-llama-cpp"): test_bench.test_llama_cpp_stands_beside,
    ("bisect", "SUBJECT"): test_bisect.test_subject_alone_is_the_fast_path_against_the_reference,
    ("bisect", "ORACLE"): test_bisect.test_oracle_names_the_other_side,
    ("bisect", "--prompt"): test_bisect.test_prompt_is_what_runs,
    ("bisect", "--threads"): test_bisect.test_threads_variant_and_kv_cache_are_those_of_the_fast_path,
    ("bisect", "--variant"): test_bisect.test_threads_variant_and_kv_cache_are_those_of_the_fast_path,
    ("bisect", "--kv-cache"): test_bisect.test_threads_variant_and_kv_cache_are_those_of_the_fast_path,
    ("bisect", "--json"): test_bisect.test_subject_alone_is_the_fast_path_against_the_reference,
    ("bisect", "--report"): test_bisect.test_report_is_a_page_written_in_one_step,
    ("determinism", "MODEL"): test_determinism.test_model_and_prompt_are_what_is_run,
    ("determinism", "--tokens"): test_determinism.test_model_and_prompt_are_what_is_run,
    ("determinism", "--prompt"): test_determinism.test_model_and_prompt_are_what_is_run,
    ("determinism", "--variant"): test_determinism.test_the_command_is_green_for_the_packaged_model,
    ("determinism", "--first"): test_determinism.test_first_ends_with_the_difference,
    ("determinism", "--kv-cache"): test_determinism.test_kv_cache_is_what_every_cell_has,
    ("determinism", "--json"): test_determinism.test_a_defect_is_named_down_to_the_value,
    ("floor", "MODEL"): test_floor.test_model_and_prompts_are_what_is_measured,
    ("floor", "--prompts"): test_floor.test_model_and_prompts_are_what_is_measured,
    ("floor", "--oracle"): test_floor.test_oracles_are_measured_where_they_are_asked_for,
    ("floor", "--output"): test_floor.test_output_is_written_the_same_again_and_printed_from_the_file,
    ("floor", "--check"): test_floor.test_a_stored_floor_is_measured_again_and_a_doubled_number_is_found,
    ("floor", "--json"): test_floor.test_model_and_prompts_are_what_is_measured,
    ("oracle", "ORACLE"): test_oracle.test_an_oracle_that_does_not_exist_is_a_usage_error,
    ("oracle", "MODEL"): test_oracle.test_model_and_prompt_are_what_is_run,
    ("oracle", "--output"): test_oracle.test_the_folder_is_that_of_a_trace,
    ("oracle", "--prompt"): test_oracle.test_model_and_prompt_are_what_is_run,
    ("oracle", "--dtype"): test_oracle.test_dtype_is_handed_to_the_oracle_and_named,
    ("oracle", "--save-tensor"): test_oracle.test_save_tensor_and_layer_select,
    ("oracle", "--layer"): test_oracle.test_save_tensor_and_layer_select,
    ("quantize", "IN"): test_quantize.test_in_and_out_name_the_files,
    ("quantize", "OUT"): test_quantize.test_in_and_out_name_the_files,
    ("quantize", "--type"): test_quantize.test_type_chooses_the_formats,
    ("quantize", "--threads"): test_quantize.test_threads_are_how_many_convert,
    ("synth", "--like"): test_synth.test_like_and_quant_choose_the_shapes_and_the_formats,
    ("synth", "--quant"): test_synth.test_like_and_quant_choose_the_shapes_and_the_formats,
    ("synth", "--seed"): test_synth.test_the_seed_governs_the_bytes,
    ("synth", "OUT"): test_synth.test_the_file_that_is_written_runs_and_is_inspected,
    ("pull", "NAME"): test_pull.test_pull_of_a_packaged_model_says_so_and_of_an_unknown_one_is_an_error,
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
