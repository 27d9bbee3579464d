"""Tests of engine.kernels.blocks: a block's codes, scales and minima against the integer model."""

import numpy as np
import pytest

from engine.formats import FORMATS
from engine.kernels import blocks
from engine.kernels.simd import I32, store, vector
from falsifiers import integer_model
from tests.engine.kernels.cases import QUANTISED, f32, run, same_bits

LAYOUTS = {layout.name: layout for layout in blocks.LAYOUTS}
HALVES = np.array([0.5, -1.75, 2.0**-24, -0.0, 65504.0, 2.0**-14], "<f2")


def random_block(name, seed):
    rng, layout = np.random.default_rng(seed), LAYOUTS[name]
    block = rng.integers(0, 256, layout.nbytes, dtype=np.uint8)
    for at in (208,) if name == "Q6_K" else (0, 2) if layout.minimum else (0,):
        block[at : at + 2] = rng.choice(HALVES, 1).view(np.uint8)
    return block


def test_layouts_are_those_of_the_formats():
    assert [layout.name for layout in blocks.LAYOUTS] == list(QUANTISED)
    for layout in blocks.LAYOUTS:
        fmt = FORMATS[layout.code]
        assert (layout.name, layout.block, layout.nbytes) == (fmt.name, fmt.block, fmt.nbytes)
        assert layout.block == layout.sub * layout.subs


@pytest.mark.parametrize("name", QUANTISED)
def test_a_block_is_unpacked_as_the_integer_model_does(name):
    layout = LAYOUTS[name]

    def unpacked(b, block, codes, integers, floats):
        for i, part in enumerate(blocks.codes(b, layout, block)):
            store(b, part, codes, 64 * i)
        if layout.block == 256:
            for i, part in enumerate(blocks.sub_scales(b, layout, block)):
                if part is not None:
                    store(b, part, integers, 64 * i)
        header = blocks.header(b, layout, block)
        scale, least = blocks.scales_of(b, layout, b.insert_element(vector(I32, 1)([0]), header, I32(0)))
        store(b, scale, floats)
        if least is not None:
            store(b, least, floats, 4)

    for seed in range(3):
        block = random_block(name, seed)
        codes, integers, floats = np.zeros(layout.block, np.uint8), np.zeros((2, 16), np.int32), np.zeros(2, f32)
        run(unpacked, block, codes, integers, floats)
        q, scales, minima, d, dmin = (part[0, 0] for part in integer_model.unpack(name, block[None, None]))
        wide = (codes.view(np.int8) if layout.negative else codes).astype(np.int64)
        assert np.array_equal(wide - layout.offset, q.reshape(-1))
        if layout.block == 256:
            assert np.array_equal(integers[0, : layout.subs], scales)
        if name in ("Q4_K", "Q5_K"):
            assert np.array_equal(integers[1, : layout.subs], minima)
        same_bits(floats[:1], d[None])
        if layout.minimum:
            same_bits(floats[1:], -dmin[None])
