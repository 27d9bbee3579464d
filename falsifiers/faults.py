"""Every fault that can be planted in the engine: at least two for each of its stages, and for its tokenizer.

A path that is opened inside `fault.plant()` has the fault. What they are for: contracts name them as mutants, and
`python -m benchmarks.localise` asks how often `apr bisect` finds them.
"""

from engine.stages import ORDER
from falsifiers import (
    faults_activation,
    faults_attention,
    faults_ends,
    faults_norms,
    faults_products,
    faults_qkv,
    faults_reference,
    faults_tokens,
)
from falsifiers.fault import TOKENS, Fault, faults_of

PARTS = (
    faults_ends,
    faults_norms,
    faults_qkv,
    faults_attention,
    faults_products,
    faults_activation,
    faults_reference,
    faults_tokens,
)

PLACES = {TOKENS: -1, **ORDER}
FAULTS: tuple[Fault, ...] = tuple(
    sorted((one for part in PARTS for one in faults_of(part)), key=lambda one: PLACES.get(one.stage, len(ORDER)))
)
"""In the order of the stages that they make wrong; the last makes none wrong, another path serves."""

NAMED = {one.name: one for one in FAULTS}
