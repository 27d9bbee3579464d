"""Tests of engine.commands.inspect: text and JSON."""

import json

from engine.registry import locate


def test_inspect_as_text_and_as_json(apr, small):
    code, out, err = apr("inspect", small)
    assert (code, err) == (0, "")
    facts = json.loads(apr("inspect", small, "--json")[1])
    assert (facts["schema"], facts["file"]) == ("apr-inspect/1", small)
    assert out.startswith(f"{small}  GGUF v3, {facts['bytes']:,} bytes")
    assert json.loads(apr("inspect", "--json")[1])["file"] == str(locate("tiny-qwen2"))
