"""Tests of engine.commands.run: what it prints and says, and what each flag governs."""

import io
import re
import sys

import numpy as np
import pytest

import engine.fast
from engine.cli import main
from engine.registry import locate
from engine.variants import chosen
from tests.engine.model_files import keys, tensors, write

TEXT = "Return a list of the"  # the packaged model goes on for some tokens


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
