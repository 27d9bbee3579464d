"""Falsifiers of the canonical order of a whole forward pass: FALSIFY-DETERMINISM-004 of contracts/determinism-v1.yaml.

What computes is held against falsifiers.integer_forward, which is written in numpy from docs/order.md.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine.buffers import Buffers
from engine.fast import FastPath
from engine.gguf import read_gguf
from engine.model import read_model
from engine.reference import Tap
from engine.trace_folder import read_manifest
from engine.variants import KV_CACHES
from falsifiers import canonical_order, integer_forward, integer_steps, on_arrays
from falsifiers.defects import rotations_rounded_twice
from falsifiers.integer_model import fma, lanes_sum, unpack
from falsifiers.subject import Installed, apr, observe_origin, subjects, tensor
from falsifiers.synthetic import NAMED, random_model
from pv.trial import Trial, mutant, patched

GENERATED = 4
TOKENS = [7, 300, 21, 7, 128, 42, 350]


def stages_have_the_bits_of_the_order(trial: Trial) -> None:
    """On random models, mixed and of each format alone, every stage and the logits are those of the order.

    The mixed ones with a cache in float16, too.
    """
    for architecture in ("qwen2", "llama"):
        for every in (None, *NAMED):
            model = random_model(trial.rng, architecture, every)
            for kv_cache in KV_CACHES if every is None else KV_CACHES[:1]:
                want = integer_forward.forward(model, TOKENS, kv_cache)
                found: dict[tuple[str, int | None], Any] = {}
                path = FastPath(model, capacity=len(TOKENS), threads=1, kv_cache=kv_cache)
                path.forward(TOKENS, tap=_into(found))
                same_bits(trial, found, want, f"random {architecture}, {every or 'all formats'}, {kv_cache} cache")


def _into(found: dict[tuple[str, int | None], Any]) -> Tap:
    """A tap that keeps a copy of every tensor."""
    return lambda stage, layer, array: found.update({(stage, layer): array.copy()})


def commands_have_the_bits_of_the_order(trial: Trial) -> None:
    """`apr trace` writes the bits that a numpy model of the order computes from the same file; `apr run` goes on so.

    With either kind of cache.
    """
    trial.oracle("falsifiers.integer_forward", integer_forward.VERSION)
    for subject in subjects(trial):
        assert isinstance(subject, Installed)
        model = read_model(read_gguf(subject.model.path))
        for kv_cache in KV_CACHES:
            folder = subject.trace("all", kv_cache=kv_cache)
            observe_origin(trial, folder)
            manifest = read_manifest(folder)
            trial.equal(manifest.kv_cache, kv_cache, "the kind of cache in the manifest")
            found = {(entry.stage, entry.layer): tensor(folder, entry.stage, entry.layer) for entry in manifest.tensors}
            want = integer_forward.forward(model, manifest.tokens, kv_cache)
            same_bits(trial, found, want, f"{subject.model.name}, {kv_cache} cache")
        said = json.loads(apr(trial, "run", subject.model.path, "--max-tokens", GENERATED, "--json").out)
        prompt, tokens = said["prompt_tokens"], said["tokens"]
        final = integer_forward.forward(model, [*prompt, *tokens[:-1]])["final_norm", None]
        logits = integer_forward.product(final[len(prompt) - 1 :], model.output)
        trial.equal(tokens, np.argmax(logits, axis=1).tolist(), "tokens that `apr run` generates")
        top = {entry["token"]: entry["logit"] for entry in said["top_first"]}
        trial.equal(top, {token: float(logits[0, token]) for token in top}, "best logits of `apr run`")


def same_bits(trial: Trial, found: Any, want: Any, name: str) -> None:
    trial.equal(len(found), len(want), f"{name}: number of tensors")
    for (stage, layer), values in want.items():
        place = f"{name}: bits of {stage}" + ("" if layer is None else f" of layer {layer}")
        got = np.ascontiguousarray(found[stage, layer])
        trial.equal(got.view(np.uint32), np.ascontiguousarray(values).view(np.uint32), place)


@mutant
def rotations_are_rounded_twice() -> Iterator[None]:
    """Rotary positions have no fused multiply-add."""
    with rotations_rounded_twice():
        yield


@mutant
def blocks_join_a_row_backwards() -> Iterator[None]:
    """The blocks of a row are joined from the last to the first."""
    with canonical_order.blocks_are_summed_backwards():
        yield


@mutant
def values_are_mixed_before_the_division() -> Iterator[None]:
    """Values are mixed by raw exponentials, and the mixture is divided by their sum."""
    attend = FastPath.attend

    def divided_last(self: FastPath, b: Buffers, layer: int, scores: Any) -> None:
        c, T = self.model.config, len(b.x)
        own = np.empty((2, T, c.heads, self.position + T), np.float32)
        attend(self, b, layer, own)
        if scores is not None:
            scores[:] = own
        out = b.mixed.x[:, : c.q_width].reshape(T, c.heads, c.head_dim)
        for t, h in np.ndindex(T, c.heads):
            seen = self.position + t + 1
            raised = integer_steps.exp(own[0, t, h, :seen] - own[0, t, h, :seen].max())
            values = on_arrays.cached(self, layer)[1][h // (c.heads // c.kv_heads), :seen]
            mixed, total = np.zeros(c.head_dim, np.float32), np.zeros(16, np.float32)
            for s in range(seen):
                mixed = fma(np.full_like(mixed, raised[s]), values[s], mixed)
                total[s % 16] += raised[s]
            out[t, h] = mixed / lanes_sum(total)
        b.mixed.quantise()

    with patched(FastPath, "attend", divided_last):
        yield


@mutant
def keys_are_cut_to_float16() -> Iterator[None]:
    """A cache in float16 holds keys whose lower bits are cut off, which rounds toward zero."""
    rotate = FastPath.rotate

    def cut(self: FastPath, b: Buffers, layer: int) -> None:
        rotate(self, b, layer)
        if self.kv_cache == "float16":
            short = (b.k.view(np.uint32) & 0xFFFFE000).view(np.float32).astype(np.float16)
            for t in range(len(b.k)):
                on_arrays.key_slot(self, layer, self.position + t)[:] = short[t]

    with patched(FastPath, "rotate", cut):
        yield


@mutant
def silu_multiplies_by_a_reciprocal() -> Iterator[None]:
    """SiLU is gate times 1 / (1 + e^-gate), which rounds once more."""
    activate = FastPath.activate

    def reciprocal(self: FastPath, b: Buffers, silu: Any) -> None:
        activate(self, b, silu)
        gate, up = np.split(b.gate_up, 2, axis=1)
        activated = gate * (np.float32(1) / (np.float32(1) + integer_steps.exp(-gate)))
        if silu is not None:
            silu[:] = activated
        b.activated.x[:] = activated * up
        b.activated.quantise()

    with patched(FastPath, "activate", reciprocal):
        yield


@mutant
def scales_of_embeddings_are_applied_last() -> Iterator[None]:
    """A row of the embedding is d times (scale times code): one rounding less than (d times scale) times code."""
    embed = FastPath.embed

    def exact(self: FastPath, tokens: Sequence[int], b: Buffers) -> None:
        embed(self, tokens, b)
        matrix = self.model.embedding
        if matrix.format.name == "Q6_K":
            raw = matrix.raw[list(tokens)].reshape(len(tokens), -1, matrix.format.nbytes)
            q, scales, _, d, _ = unpack("Q6_K", raw)
            rows = d[..., None, None] * (scales[..., None] * q).astype(np.float32)
            b.x[:, : matrix.columns] = rows.reshape(len(tokens), -1)

    with patched(FastPath, "embed", exact):
        yield
