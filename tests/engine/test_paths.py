"""Tests of engine.paths: the path that is asked for is the path that is opened, or there is an error."""

import subprocess
import sys

import numba
import numpy as np
import pytest

from engine import fast, paths, reference
from engine.errors import EngineError
from engine.paths import NAMES, open_path
from engine.variants import KV_CACHES
from falsifiers.synthetic import random_model

MODEL = random_model(np.random.default_rng(51), "qwen2")


@pytest.mark.parametrize(("name", "kind"), [("fast", fast.FastPath), ("reference", reference.ReferencePath)])
def test_a_path_is_opened_by_its_name(name, kind):
    path = open_path(MODEL, name, capacity=5)
    assert type(path) is kind
    assert (path.name, path.position, path.model) == (name, 0, MODEL)


def test_every_name_can_be_opened():
    assert {open_path(MODEL, name, capacity=1).name for name in NAMES} == set(NAMES)


@pytest.mark.parametrize("name", ["", "Fast", "gpu", "ref"])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(EngineError, match=rf"^--path: unknown path '{name}'\n  hint: one of: fast, reference$"):
        open_path(MODEL, name, capacity=5)


def test_threads_are_passed_on_and_by_default_those_of_this_process():
    assert open_path(MODEL, "fast", capacity=5, threads=1).threads == 1
    assert 1 <= open_path(MODEL, "fast", capacity=5).threads <= numba.config.NUMBA_NUM_THREADS


def test_no_threads_at_all_are_not_the_default():
    with pytest.raises(EngineError, match=r"^--threads: 0 threads asked for"):
        open_path(MODEL, "fast", capacity=5, threads=0)


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_the_reference_path_takes_no_threads(threads):
    with pytest.raises(
        EngineError, match=r"^--threads: the reference path runs on numpy's own threads\n  hint: leave it out"
    ):
        open_path(MODEL, "reference", capacity=5, threads=threads)


@pytest.mark.parametrize("kv_cache", [None, "float32", "float16"])
def test_the_kind_of_cache_is_passed_on_and_by_default_the_first(kv_cache):
    path = open_path(MODEL, "fast", capacity=5, kv_cache=kv_cache)
    assert path.kv_cache == path.keys.dtype.name == path.values.dtype.name == (kv_cache or KV_CACHES[0])
    assert open_path(MODEL, "reference", capacity=5).kv_cache is None


@pytest.mark.parametrize("path", NAMES)
@pytest.mark.parametrize("kv_cache", ["", "float64", "Float16"])
def test_an_unknown_kind_of_cache_is_refused(path, kv_cache):
    message = rf"^--kv-cache: unknown kind of cache '{kv_cache}'\n  hint: one of: float32, float16$"
    with pytest.raises(EngineError, match=message):
        open_path(MODEL, path, capacity=5, kv_cache=kv_cache)


@pytest.mark.parametrize("kv_cache", KV_CACHES)
def test_the_reference_path_has_no_kind_of_cache(kv_cache):
    with pytest.raises(
        EngineError, match=r"^--kv-cache: the reference path keeps keys and values in float64\n  hint: l"
    ):
        open_path(MODEL, "reference", capacity=5, kv_cache=kv_cache)


def test_without_numba_the_fast_path_is_an_error_and_never_another_path(monkeypatch):
    monkeypatch.setitem(sys.modules, "engine.fast", None)  # as if its import failed
    with pytest.raises(EngineError, match=r"(?s)^--path: the fast path cannot be loaded: .*--path reference$"):
        open_path(MODEL, "fast", capacity=5)
    assert open_path(MODEL, "reference", capacity=5).name == "reference"


def test_the_module_of_paths_does_not_load_numba():
    code = f"import sys, {paths.__name__}; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
