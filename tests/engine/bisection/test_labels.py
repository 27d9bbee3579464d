"""Tests of engine.bisection.labels: a side whose numbers are of another arithmetic than its label says."""

import json

import numpy as np
import pytest

from engine.bisection import sides
from engine.bisection.naming import Spec
from engine.bisection.run import bisect
from engine.bisection.sides import FolderSide, PathSide
from engine.fast import FastPath
from engine.paths import open_path
from engine.reference import ReferencePath
from engine.stages import NAMES
from engine.trace_folder import MANIFEST, TraceWriter
from falsifiers.synthetic import random_model
from tests.engine.bisecting import TOKENS


@pytest.fixture(scope="session")
def model():
    return random_model(np.random.default_rng(46), "qwen2")


def side(model, engine, **options):
    return PathSide(Spec(f"m@{engine}", "m", engine), model, **options)


def kinds(found):
    return [one.kind for one in found.measured.findings]


class Disguised(FastPath):
    name = "reference"

    def __init__(self, model, **options):
        super().__init__(model, capacity=64)
        self.variant, self.kv_cache = "numpy-float64", None


@pytest.mark.parametrize("serve", [Disguised, lambda model, **options: FastPath(model, capacity=64)])
def test_an_oracle_that_another_path_serves_is_told_whatever_it_calls_itself(model, monkeypatch, serve):
    def opened(model, name, **options):
        return serve(model) if name == "reference" else open_path(model, name, **options)

    monkeypatch.setattr(sides, "open_path", opened)
    found = bisect(side(model, "fast"), side(model, "reference", split=False), TOKENS)
    assert found.verdict.name == "DIVERGES"
    assert set(kinds(found)) == {"silent-fallback"}
    assert "oracle" in found.measured.findings[0].text


def test_a_cache_that_was_to_round_and_does_not_is_told(model, monkeypatch):
    start = FastPath.__init__

    def started(self, *arguments, kv_cache="float32", **options):
        start(self, *arguments, kv_cache="float32", **options)
        self.kv_cache = kv_cache

    pair = side(model, "fast", kv_cache="float16"), side(model, "reference", split=False)
    assert bisect(*pair, TOKENS).verdict.name == "WITHIN_FLOOR"
    monkeypatch.setattr(FastPath, "__init__", started)
    assert kinds(bisect(*pair, TOKENS)) == ["other-arithmetic"]


def test_an_oracle_is_held_to_its_logits_without_a_trace(model, monkeypatch):
    pair = side(model, "reference"), side(model, "fast", split=False)
    assert kinds(bisect(*pair, TOKENS)) == []
    forward = FastPath.forward
    monkeypatch.setattr(
        FastPath,
        "forward",
        lambda self, tokens, tap=None: forward(self, tokens, tap) if tap else -forward(self, tokens),
    )
    assert kinds(bisect(*pair, TOKENS)) == ["untraced-differs"]


@pytest.fixture
def folder(model, tmp_path):
    """A folder of the reference's stages, whose manifest says what is asked."""

    def written(path, variant, kv_cache=None):
        with TraceWriter(tmp_path / path, stages=NAMES, layers=range(model.config.n_layers)) as writer:
            ReferencePath(model).forward(TOKENS, writer.tap)
            writer.finish(
                engine="0", model={"name": "m", "sha256": "0" * 64, "architecture": "qwen2"}, prompt="", tokens=TOKENS,
                path="reference", variant="numpy-float64",
            )  # fmt: skip
        manifest = json.loads((tmp_path / path / MANIFEST).read_text())
        manifest |= {"path": path, "variant": variant, **({"kv_cache": kv_cache} if kv_cache else {})}
        (tmp_path / path / MANIFEST).write_text(json.dumps(manifest))
        return FolderSide(Spec(str(tmp_path / path), str(tmp_path / path), "folder"))

    return written


@pytest.mark.parametrize(
    ("path", "variant", "kv_cache", "kind"),
    [
        ("reference", "numpy-float64", None, None),
        ("fast", "avx2", "float32", "silent-fallback"),
        ("transformers", "bfloat16", None, "other-arithmetic"),
        ("transformers", "float32", None, None),
        ("llama-cpp", "cpu", None, "other-arithmetic"),
    ],
)
def test_a_folder_is_what_its_numbers_show(model, folder, path, variant, kv_cache, kind):
    named = folder(path, variant, kv_cache)
    for found in (
        bisect(named, side(model, "reference", split=False), TOKENS),
        bisect(side(model, "fast"), named, TOKENS),
    ):
        assert kinds(found) == ([kind] if kind else [])
        assert (found.verdict.name == "DIVERGES") is (kind is not None)
