"""Tensors of ggml, the library under llama.cpp, read where they lie, through ctypes.

The layout of `struct ggml_tensor` is not part of ggml's interface. It is taken from ggml.h (ggml 0.25) and tried,
before anything is read, on tensors whose every field is known.
"""

import ctypes
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError

_DIMS, _SOURCES, _PARAMETERS = 4, 10, 16
_F32, _F16, _ITEM = 0, 1, 4  # GGML_TYPE_F32, GGML_TYPE_F16; bytes of a float32
_UPDATE = "install the llama-cpp-python that pyproject.toml names, or newer: pip install 'pv-contracts[llama-cpp]'"


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * _DIMS),  # lengths, the innermost first
        ("nb", ctypes.c_size_t * _DIMS),  # strides in bytes
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_float * _PARAMETERS),  # of int32, which some operations fill with floats
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * _SOURCES),
    )


class _InitParams(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


_P, _I, _N, _F, _S = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_float, ctypes.c_size_t
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "ggml_get_name": (ctypes.c_char_p, [_P]),
    "ggml_op_desc": (ctypes.c_char_p, [_P]),
    "ggml_nbytes": (_S, [_P]),
    "ggml_version": (ctypes.c_char_p, []),
    "ggml_backend_tensor_get": (None, [_P, _P, _S, _S]),
    "ggml_init": (_P, [_InitParams]),
    "ggml_free": (None, [_P]),
    "ggml_new_tensor_4d": (_P, [_P, _I, _N, _N, _N, _N]),
    "ggml_permute": (_P, [_P, _P, _I, _I, _I, _I]),
    "ggml_soft_max_ext": (_P, [_P, _P, _P, _F, _F]),
}


class Ggml:
    """Reads tensors by their addresses; an address is good during the evaluation callback that it came with."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """library: one that has ggml's functions, itself or through those that it loads.

        Raises EngineError where a function is missing, or tensors are laid out otherwise than this module reads them.
        """
        self._c: Any = SimpleNamespace()
        for name, (result, arguments) in _FUNCTIONS.items():
            try:
                function = library[name]  # not getattr: that would give an object that others share
            except AttributeError as error:
                raise EngineError(f"ggml has no function {name}", where="llama-cpp", hint=_UPDATE) from error
            function.restype, function.argtypes = result, arguments
            setattr(self._c, name, function)
        self._try_layout()

    def version(self) -> str:
        """Version of ggml, such as "0.25.3"."""
        return str(self._c.ggml_version().decode())

    def name(self, tensor: int | None) -> str:
        """Name of a tensor; "" where there is none."""
        return self._c.ggml_get_name(tensor).decode("utf-8", "replace") if tensor else ""

    def operation(self, tensor: int) -> str:
        """What computes a tensor, such as "MUL_MAT"."""
        return str(self._c.ggml_op_desc(tensor).decode())

    def source(self, tensor: int, index: int) -> int | None:
        """Address of an operand; None where there is none."""
        operand: int | None = _Tensor.from_address(tensor).src[index]
        return operand

    def parameter(self, tensor: int, index: int) -> float:
        """A parameter of an operation that takes floats, each a float32."""
        return float(_Tensor.from_address(tensor).op_params[index])

    def read(self, tensor: int) -> NDArray[np.float32]:
        """A copy of what a tensor of type F32 without gaps holds: four lengths, the innermost last.

        Raises EngineError for another type, another order, and lengths that contradict ggml's own count of bytes.
        """
        found = _Tensor.from_address(tensor)
        shape, strides = tuple(found.ne)[::-1], tuple(found.nb)[::-1]
        packed = tuple(_ITEM * math.prod(shape[index + 1 :]) for index in range(_DIMS))
        if found.type != _F32 or strides != packed:
            raise self._unreadable(
                tensor, f"is of type {found.type}, lengths {shape} and strides {strides}: no plain F32"
            )
        size = int(self._c.ggml_nbytes(tensor))
        if size != _ITEM * math.prod(shape):
            raise self._unreadable(tensor, f"has {size} bytes, which its lengths {shape} contradict")
        array = np.empty(shape, np.float32)
        self._c.ggml_backend_tensor_get(tensor, array.ctypes.data, 0, size)
        return array

    def _unreadable(self, tensor: int, why: str) -> EngineError:
        return EngineError(f"tensor {self.name(tensor)!r} of llama.cpp {why}", where="llama-cpp", hint=_UPDATE)

    def _try_layout(self) -> None:
        """Make tensors, of which nothing is computed, and compare each field that is read later."""
        context = self._c.ggml_init(_InitParams(1 << 16, None, True))
        try:
            scores = self._c.ggml_new_tensor_4d(context, _F32, 3, 5, 7, 2)
            mask = self._c.ggml_new_tensor_4d(context, _F16, 3, 5, 1, 1)
            turned = self._c.ggml_permute(context, scores, 0, 2, 1, 3)
            softmax = self._c.ggml_soft_max_ext(context, scores, mask, 0.25, 0.0)
            want = [
                (_F32, (3, 5, 7, 2), (4, 12, 60, 420), [None, None]),
                (_F16, (3, 5, 1, 1), (2, 6, 30, 30), [None, None]),
                (_F32, (3, 7, 5, 2), (4, 60, 12, 420), [scores, None]),
                (_F32, (3, 5, 7, 2), (4, 12, 60, 420), [scores, mask]),
            ]
            found = [
                (one.type, tuple(one.ne), tuple(one.nb), one.src[:2])
                for one in map(_Tensor.from_address, (scores, mask, turned, softmax))
            ]
            parameters = self.parameter(softmax, 0), self.parameter(softmax, 1)
            fits = found == want and parameters == (0.25, 0.0) and self.operation(softmax) == "SOFT_MAX"
        finally:
            self._c.ggml_free(context)
        if not fits:
            raise EngineError(
                f"tensors of ggml {self.version()} are laid out otherwise than this oracle reads them",
                where="llama-cpp",
                hint=_UPDATE,
            )
