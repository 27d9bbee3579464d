"""Tensors of ggml: their layout is tried before anything is read, and only what is plain is read."""

import pytest

from engine.errors import EngineError
from engine.oracles import ggml, llama_cpp
from tests.engine.oracles.llamas import located

pytestmark = pytest.mark.oracle
pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra `llama-cpp`)")


def test_tensors_in_another_layout_are_refused_before_anything_is_read(monkeypatch):
    fields = list(ggml._Tensor._fields_)
    order = [0, 1, 3, 2, 4, 5, 6, 7], [0, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 5, 6, 7]
    for kept in order:
        changed = type("Changed", (ggml._Tensor.__base__,), {"_fields_": tuple(fields[index] for index in kept)})
        changed.op = 0
        monkeypatch.setattr(ggml, "_Tensor", changed)
        with pytest.raises(EngineError, match=r"are laid out otherwise than this oracle reads them\n  hint: install"):
            llama_cpp.open_model(located("tiny-qwen2"))


def test_a_function_that_ggml_lacks_is_told(monkeypatch):
    monkeypatch.setitem(ggml._FUNCTIONS, "ggml_new_function", (None, []))
    with pytest.raises(EngineError, match=r"^llama-cpp: ggml has no function ggml_new_function\n"):
        llama_cpp.open_model(located("tiny-qwen2"))


def test_a_tensor_that_is_turned_or_of_another_type_is_not_read():
    reader = ggml.Ggml(llama_cpp._llama_cpp()._lib)
    context = reader._c.ggml_init(ggml._InitParams(1 << 16, None, True))
    try:
        plain = reader._c.ggml_new_tensor_4d(context, 0, 3, 5, 7, 2)
        for tensor in (
            reader._c.ggml_permute(context, plain, 0, 2, 1, 3),
            reader._c.ggml_new_tensor_4d(context, 26, 3, 5, 7, 2),  # GGML_TYPE_I32
        ):
            with pytest.raises(
                EngineError, match=r"^llama-cpp: tensor '.*' of llama.cpp is of type .*: no plain F32\n"
            ):
                reader.read(tensor)
        ggml._Tensor.from_address(plain).ne[3] = 1
        reader._c.ggml_nbytes = lambda tensor: 840
        with pytest.raises(EngineError, match=r"^llama-cpp: tensor '' of llama.cpp has 840 bytes, which its lengths "):
            reader.read(plain)
    finally:
        reader._c.ggml_free(context)
