"""The configuration of a model: what its weights do not say. Each format has a reader of its own."""

from dataclasses import dataclass
from typing import Literal

from engine.errors import EngineError

Pairing = Literal["adjacent", "halves"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Dimensions and constants of a decoder-only transformer."""

    architecture: str
    name: str
    n_layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    rms_eps: float
    rope_base: float
    rope_dim: int
    rope_scale: float  # positions are divided by it (linear scaling); 1.0 when there is none
    pairing: Pairing
    qkv_bias: bool
    tied: bool  # the output matrix is the embedding matrix

    @property
    def q_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim


def check_numbers(where: str, *, heads: int, kv_heads: int, rms_eps: float, rope_base: float) -> None:
    """Raise EngineError for what no model of any format can have."""
    if heads % kv_heads:
        raise EngineError(f"{heads} query heads cannot share {kv_heads} key/value heads evenly", where=where)
    if not (0 < rms_eps < 1 and 1 < rope_base < 1e12):
        raise EngineError(f"impossible constants: RMS epsilon {rms_eps}, RoPE base {rope_base}", where=where)
