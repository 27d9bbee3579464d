"""Every variant that this CPU can run gives the same bits: one process for each, against what this one computes.

Where the kernels of a variant are not compiled yet, its process takes a minute; the user's cache keeps them.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.variants import AVX2, GENERIC, VARIANTS, VNNI, available
from tests.engine.kernels.one_variant import measured

ROOT = Path(__file__).parents[3]
USED = {
    VNNI: ({"vpdpbusd"}, {"vpmaddubsw"}),
    AVX2: ({"ymm", "vpmaddubsw"}, {"zmm", "vpdpbusd"}),
    GENERIC: (set(), {"zmm", "ymm"}),
}
"""What the code of a variant must use, and what it must not."""

here = functools.cache(measured)


@pytest.mark.parametrize("variant", available())
def test_a_variant_has_the_bits_of_the_others(variant):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.engine.kernels.one_variant"],
        cwd=ROOT,
        env={**os.environ, "APR_VARIANT": variant},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr  # -11: a kernel has read past its weights
    found = json.loads(done.stdout)
    assert found.pop("variant") == variant
    assert found.pop("cpu") == VARIANTS[variant].cpu or not VARIANTS[variant].cpu
    wanted, unwanted = USED[variant]
    used = set(found.pop("used"))
    assert wanted <= used
    assert not unwanted & used
    assert (found["wrong"], found["halves"]) == ([], 0)
    assert found == here()
