"""Tests of falsifiers.model_parity: what it does without the engines that it asks."""

import sys

import pytest

from engine.registry import locate
from falsifiers.model_parity import ENGINES, other_engines_match
from pv.trial import ModelFile, Skipped, Trial


@pytest.mark.parametrize("library", ["llama_cpp", "torch"])
def test_an_engine_that_is_not_installed_skips_the_trial_and_says_what_to_install(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    path = locate("tiny-qwen2")
    trial = Trial(seed=0, model=ModelFile(name="tiny-qwen2", path=path, sha256="0" * 64))
    with pytest.raises(Skipped, match=rf"^not installed: .*{library}.*; pip install 'pv-contracts\[oracles\]'$"):
        other_engines_match(trial)
    assert trial.oracle_used is None
    assert library in [name for libraries in ENGINES.values() for name in libraries]
