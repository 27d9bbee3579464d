"""Tests of engine.commands.warmup: what is compiled, and what it removes."""

import os
import re
import time

from engine import warmup
from engine.formats import FORMATS
from engine.kernels import prepared
from engine.variants import KV_CACHES, chosen


def test_warmup_compiles_what_the_models_need_or_all_formats(apr, small, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(prepared, "FOLDER", str(folder_of_kernels(tmp_path, chosen(), "f")))  # not the user's
    monkeypatch.setattr(
        warmup, "compile_kernels", lambda names, tell, caches: asked.append((set(names), caches)) or len(asked)
    )
    assert re.fullmatch(
        rf"1 kernels compiled in \d+\.\d s, kept in .*{chosen()}-[0-9a-f]{{16}}\n", apr("warmup", small)[1]
    )
    assert apr("warmup")[1].startswith("2 kernels compiled")
    assert asked == [({"Q8_0"}, KV_CACHES), ({fmt.name for fmt in FORMATS.values()}, KV_CACHES)]
    code, out, err = apr("warmup", "nothing.gguf")
    assert (code, out) == (2, "")
    assert "nothing.gguf" in err


def folder_of_kernels(base, variant, digit, days=0):
    """A folder of 1234 bytes, named after sources and last used some days ago."""
    folder = base / f"{variant}-{digit * 16}"
    folder.mkdir()
    (folder / "steps.nbi").write_bytes(bytes(1234))
    for path in (folder / "steps.nbi", folder):
        os.utime(path, (time.time() - days * 24 * 3600,) * 2)
    return folder


def test_warmup_removes_what_other_versions_left_and_says_so(apr, small, monkeypatch, tmp_path):
    base = tmp_path / "kernels"
    base.mkdir()
    mine, *_ = stay = [
        folder_of_kernels(base, chosen(), "f", 99), folder_of_kernels(base, "generic", "f", 99),
        folder_of_kernels(base, "generic", "1", 29),
    ]  # fmt: skip
    gone = [folder_of_kernels(base, variant, "2", 31) for variant in ("generic", "avx2")]
    monkeypatch.setattr(prepared, "FOLDER", str(mine))
    code, out, _ = apr("warmup", small)
    assert code == 0
    assert out.splitlines()[1:] == [f"2 folders of other versions' kernels removed from {base}: 2,468 bytes"]
    assert [path.exists() for path in (*stay, *gone)] == [True] * 3 + [False] * 2
    assert len(apr("warmup", small)[1].splitlines()) == 1
