"""Fixtures of the tests of oracles."""

from functools import cache

import pytest

from engine.oracles import llama_cpp
from tests.engine.model_files import keys, tensors, write


@pytest.fixture(scope="module")
def oracles():
    """Opens an oracle by the path of its model, once."""
    opened = {}

    def of(path):
        if path not in opened:
            opened[path] = llama_cpp.open_model(path)
        return opened[path]

    yield of
    for one in opened.values():
        one.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Random models, by architecture, options of model_files.tensors, and format of the weights."""
    folder = tmp_path_factory.mktemp("small")

    @cache
    def of(arch, bias=None, tied=None, quantise="F32"):
        path = folder / f"{arch}-{bias}-{tied}-{quantise}.gguf"
        return write(path, keys(arch, context_length=600), tensors(arch, bias=bias, tied=tied), quantise)

    return of
