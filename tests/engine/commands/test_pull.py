"""Tests of engine.commands.pull: a packaged model, and an unknown one."""

from engine.registry import locate


def test_pull_of_a_packaged_model_says_so_and_of_an_unknown_one_is_an_error(apr):
    assert apr("pull", "tiny-qwen2") == (0, f"{locate('tiny-qwen2')}: is part of the package\n", "")
    code, out, err = apr("pull", "no-such")
    assert (code, out) == (2, "")
    assert err.startswith("apr: no-such: no registered model of that name\n  hint: registered: tiny-qwen2")
