"""Tests of engine.variants: which variant serves, what is refused, and where compiled kernels are kept."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest

from engine import variants
from engine.errors import EngineError
from engine.variants import AVX2, GENERIC, VARIANTS, VNNI, available, choose, chosen, features

ROOT = Path(__file__).parents[2]
ALL = VARIANTS[VNNI].needs


@pytest.fixture
def fresh(monkeypatch):
    """A process that has not chosen yet, on a CPU that has everything; call it for a CPU that has less."""
    monkeypatch.setattr(variants, "_chosen", "")
    monkeypatch.delenv("APR_VARIANT", raising=False)

    def has(*names):
        monkeypatch.setattr(variants, "features", lambda: frozenset(names))

    has(*ALL)
    return has


def python(code, *arguments, **environment):
    """What an interpreter of its own says to the code: (exit code, standard output, standard error)."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("APR_", "NUMBA_CACHE"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        cwd=ROOT, env={**kept, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


# ---------------------------------------------------------------- what is available


def test_variants_are_named_the_fastest_first():
    assert list(VARIANTS) == [VNNI, AVX2, GENERIC] == ["avx512-vnni", "avx2", "generic"]
    assert all(name == variant.name for name, variant in VARIANTS.items())
    assert VARIANTS[GENERIC].needs < VARIANTS[AVX2].needs < VARIANTS[VNNI].needs


def test_this_cpu_can_run_what_is_said_to_be_available():
    assert available()[-1] == GENERIC
    assert all(VARIANTS[name].needs <= features() for name in available())
    assert chosen() in available()


@pytest.mark.parametrize(
    ("has", "want"),
    [
        (ALL, (VNNI, AVX2, GENERIC)),
        (ALL - {"avx512vnni"}, (AVX2, GENERIC)),
        (ALL - {"avx512vl"}, (AVX2, GENERIC)),
        (ALL - {"fma"}, (GENERIC,)),
        (ALL - {"f16c"}, (GENERIC,)),
        ({"avx2", "fma", "f16c", "neon"}, (AVX2, GENERIC)),
        ((), (GENERIC,)),
    ],
)
def test_a_variant_is_available_where_the_cpu_has_all_that_it_needs(fresh, has, want):
    fresh(*has)
    assert available() == want
    assert chosen() == want[0]


# ---------------------------------------------------------------- choosing


@pytest.mark.parametrize("name", [None, ""])
def test_without_a_name_the_fastest_is_chosen(fresh, name):
    choose(name)
    assert chosen() == VNNI


@pytest.mark.parametrize("name", list(VARIANTS))
def test_a_variant_is_chosen_by_name_or_by_the_environment(fresh, monkeypatch, name):
    choose(name)
    assert chosen() == name
    monkeypatch.setattr(variants, "_chosen", "")
    monkeypatch.setenv("APR_VARIANT", name)
    assert chosen() == name


def test_a_name_goes_before_the_environment(fresh, monkeypatch):
    monkeypatch.setenv("APR_VARIANT", "nonsense")
    choose(AVX2)
    assert chosen() == AVX2


@pytest.mark.parametrize("named", [True, False])
def test_an_unknown_name_is_refused(fresh, monkeypatch, named):
    where = "--variant" if named else "APR_VARIANT"
    if not named:
        monkeypatch.setenv("APR_VARIANT", "avx9")
    with pytest.raises(
        EngineError, match=rf"^{where}: unknown variant 'avx9'\n  hint: one of: avx512-vnni, avx2, generic$"
    ):
        choose("avx9" if named else None)
    assert variants._chosen == ""


@pytest.mark.parametrize("named", [True, False])
def test_a_variant_that_the_cpu_lacks_is_refused(fresh, monkeypatch, named):
    fresh(*(ALL - {"avx512vnni", "avx512bw"}))
    where = "--variant" if named else "APR_VARIANT"
    if not named:
        monkeypatch.setenv("APR_VARIANT", VNNI)
    with pytest.raises(
        EngineError,
        match=rf"^{where}: this CPU cannot run the variant avx512-vnni: it lacks avx512bw, avx512vnni\n"
        r"  hint: possible here: avx2, generic$",
    ):
        choose(VNNI if named else None)
    assert variants._chosen == ""


def test_a_second_choice_is_refused_and_the_first_stays(fresh, monkeypatch):
    choose(AVX2)
    choose(AVX2)
    choose(None)
    for where in ("--variant", "APR_VARIANT"):
        monkeypatch.setenv("APR_VARIANT", GENERIC)
        with pytest.raises(
            EngineError,
            match=rf"^{where}: the kernels of this process are avx2\n  hint: one process has one variant: ",
        ):
            choose(GENERIC if where == "--variant" else None)
    assert chosen() == AVX2


# ---------------------------------------------------------------- in a process of its own


def test_the_environment_chooses_for_a_whole_process():
    code = (
        "from engine.fast import chosen; from engine.kernels.blocks import LAYOUTS; print(chosen(), LAYOUTS[4].offset)"
    )
    assert python(code, APR_VARIANT=GENERIC) == (0, "generic 0\n", "")
    code, _, err = python("import engine.kernels", APR_VARIANT="avx9")
    assert code == 1
    assert "EngineError: APR_VARIANT: unknown variant 'avx9'\n  hint: one of: avx512-vnni, avx2, generic\n" in err


def test_a_choice_before_the_kernels_are_loaded_holds_and_one_behind_is_refused():
    code = f"""
from engine import variants
variants.choose("{GENERIC}")
import engine.kernels
print(variants.chosen())
variants.choose("nonsense")
"""
    code, out, err = python(code)
    assert (code, out) == (1, "generic\n")
    assert "unknown variant 'nonsense'" in err


def test_numba_must_not_have_settled_on_another_cpu():
    """What it compiles is then for all that the CPU has, and would lie in the cache under the variant's name."""
    if not VARIANTS[GENERIC].cpu:
        return  # one variant, for the CPU at hand
    used = "from numba import njit\nnjit(lambda x: x + 1)(1)\nimport engine.kernels"
    code, _, err = python(used, APR_VARIANT=GENERIC)
    assert code == 1
    assert "EngineError: APR_VARIANT: numba compiles for another CPU than x86-64-v2 in this process already\n" in err
    assert "  hint: load the engine before other users of numba, or leave the variant to the engine\n" in err
    assert python(used)[0] == 0
    lesser = "from engine import variants\nvariants.features = lambda: frozenset(('avx2', 'fma', 'f16c'))\n"
    assert python(lesser + used)[0] == 0  # a CPU whose fastest variant is another


@pytest.mark.skipif(VNNI not in available(), reason="any numba compiles what this CPU can run")
def test_numba_must_compile_for_what_the_variant_needs():
    """LLVM would end the process without a word."""
    restricted = {"NUMBA_CPU_NAME": "x86-64-v2", "NUMBA_CPU_FEATURES": "+avx2,+fma,+f16c,-avx512f"}
    code, _, err = python("import engine.kernels", **restricted)
    assert code == 1
    assert "EngineError: APR_VARIANT: numba does not compile for avx512bw, avx512f, avx512vl, avx512vnni\n" in err
    assert "  hint: unset NUMBA_CPU_NAME and NUMBA_CPU_FEATURES, or choose another variant\n" in err
    told = "from engine.kernels import blocks; print(blocks.chosen())"
    for name in (AVX2, GENERIC):
        assert python(told, **restricted, APR_VARIANT=name) == (0, f"{name}\n", "")


OTHERS = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import numba
before = str(numba.config.CACHE_DIR)
import theirs_early
from engine import kernels
from falsifiers import on_arrays
import numpy as np
import theirs
on_arrays.exp(np.ones(3, np.float32)), theirs.f(1), theirs_early.f(1)
print(json.dumps([before, str(numba.config.CACHE_DIR), list(numba.config.THREADING_LAYER_PRIORITY),
                  os.environ["GOMP_SPINCOUNT"]]))
"""


@pytest.mark.parametrize("set_by_user", [True, False])
def test_what_others_compile_is_kept_where_it_was(tmp_path, set_by_user):
    """Kernels go to a folder of the variant, below the one that the user names or in the user's cache."""
    for name in ("theirs", "theirs_early"):
        (tmp_path / f"{name}.py").write_text("from numba import njit\n@njit(cache=True)\ndef f(x):\n    return x + 1\n")
    cache = tmp_path / "cache"
    environment = {"NUMBA_CACHE_DIR": str(cache)} if set_by_user else {"XDG_CACHE_HOME": str(cache)}
    code, out, err = python(OTHERS, tmp_path, **environment)
    assert (code, err) == (0, "")
    before, after, layers, spins = json.loads(out)
    assert before == after == (str(cache) if set_by_user else "")
    assert layers == ["omp", "tbb", "workqueue"]
    assert spins == os.environ.get("GOMP_SPINCOUNT", "20000")
    base = cache if set_by_user else cache / "pv-contracts/kernels"
    (ours,) = [path for path in base.iterdir() if path.name.startswith(f"{available()[0]}-")]
    assert [path.name.split("-")[0].split(".")[-1] for path in ours.rglob("*.nbi")] == ["exponentials"]
    theirs = [path for path in tmp_path.rglob("*.nbi") if ours not in path.parents]
    assert sorted(path.name.split("-")[0] for path in theirs) == ["theirs.f", "theirs_early.f"]
    assert all(("__pycache__" in path.parts) != set_by_user for path in theirs)


def test_settings_of_threads_that_the_user_made_are_kept():
    code = (
        "import engine.kernels, numba, os; print(numba.config.THREADING_LAYER_PRIORITY, os.environ['GOMP_SPINCOUNT'])"
    )
    environment = {"NUMBA_THREADING_LAYER_PRIORITY": "workqueue omp tbb", "GOMP_SPINCOUNT": "7"}
    assert python(code, **environment) == (0, "['workqueue', 'omp', 'tbb'] 7\n", "")


# ---------------------------------------------------------------- the cache


@pytest.fixture
def engine_copy(monkeypatch, tmp_path):
    """A copy of the sources from which the name of the cache folder is computed."""
    folder = tmp_path / "engine"
    shutil.copytree(ROOT / "engine/kernels", folder / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "engine/variants.py", folder)
    original = variants._cache("")
    monkeypatch.setattr(variants, "__file__", str(folder / "variants.py"))
    assert variants._cache("") == original
    return folder


@pytest.mark.parametrize("file", ["kernels/simd.py", "kernels/rows.py", "kernels/__init__.py", "variants.py"])
def test_a_change_in_a_source_changes_the_folder(engine_copy, file):
    before = variants._cache("")
    path = engine_copy / file
    path.write_text(path.read_text().replace("16", "17", 1))
    after = variants._cache("")
    assert (after.parent, after.name.rpartition("-")[0]) == (before.parent, before.name.rpartition("-")[0])
    assert after != before


def test_a_further_source_and_a_name_change_the_folder(engine_copy):
    found = {variants._cache("")}
    (engine_copy / "kernels/more.py").write_text("")
    found.add(variants._cache(""))
    (engine_copy / "kernels/more.py").rename(engine_copy / "kernels/other.py")
    found.add(variants._cache(""))
    assert len(found) == 3


def test_what_is_no_source_does_not_change_the_folder(engine_copy):
    before = variants._cache("")
    (engine_copy / "kernels/notes.txt").write_text("x")
    (engine_copy / "kernels/__pycache__").mkdir()
    assert variants._cache("") == before


def test_every_variant_has_a_folder_of_its_own_below_the_one_that_is_set(fresh, monkeypatch, tmp_path):
    found = []
    for name in VARIANTS:
        monkeypatch.setattr(variants, "_chosen", name)
        found.append(variants._cache(""))
        assert found[-1].name.startswith(f"{name}-")
        assert variants._cache(str(tmp_path)) == tmp_path / found[-1].name
    assert len(set(found)) == 3
    assert {path.parent for path in found} == {Path(platformdirs.user_cache_dir("pv-contracts")) / "kernels"}
