"""Bytecode that Python would run in place of the source that is digested."""

import os
import py_compile
import subprocess
import sys
from importlib.util import cache_from_source
from pathlib import Path

import pytest
from _pytest.assertion import rewrite

from pv.bytecode import check_bytecode
from pv.errors import PvError

SOURCE, OTHER = "limit = 3\nassert limit\n", "limit = 4\nassert limit\n"
MODES = list(py_compile.PycInvalidationMode)


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "one.py").write_text(SOURCE)
    return tmp_path / "one.py"


def plant(module: Path, mode: py_compile.PycInvalidationMode, level: int = 0) -> Path:
    """Bytecode of OTHER, as if it were that of the module."""
    times = module.stat().st_mtime_ns
    module.write_text(OTHER)
    os.utime(module, ns=(times, times))
    made = py_compile.compile(str(module), invalidation_mode=mode, optimize=level, doraise=True)
    module.write_text(SOURCE)
    os.utime(module, ns=(times, times))
    return Path(made)


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_bytecode_of_the_source_is_fine_however_it_is_kept(module: Path, mode: object, level: int) -> None:
    py_compile.compile(str(module), invalidation_mode=mode, optimize=level, doraise=True)  # type: ignore[arg-type]
    check_bytecode([module])


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("mode", [MODES[0], MODES[2]], ids=["time and size", "unchecked"])
def test_other_bytecode_that_would_be_run_is_named_with_what_to_do(
    module: Path, mode: py_compile.PycInvalidationMode, level: int
) -> None:
    made = plant(module, mode, level)
    with pytest.raises(PvError) as caught:
        check_bytecode([module])
    assert str(caught.value) == (
        f"{made}: holds other code than {module}: Python runs it in place of the source, which is what is digested\n"
        f"  hint: remove {made.parent}, which Python makes anew, and keep it out of the repository"
    )
    run = [sys.executable, *["-O"] * level, "-c", "import one; print(one.limit)"]
    assert subprocess.run(run, cwd=module.parent, capture_output=True, check=True).stdout == b"4\n"
    made.unlink()
    check_bytecode([module])


def test_a_forged_hash_of_the_source_is_found(module: Path) -> None:
    made = plant(module, MODES[1])
    data = made.read_bytes()
    py_compile.compile(str(module), invalidation_mode=MODES[1])
    made.write_bytes(made.read_bytes()[:16] + data[16:])
    with pytest.raises(PvError, match="holds other code than"):
        check_bytecode([module])


def test_bytecode_that_python_compiles_anew_is_nobodys_fault(module: Path) -> None:
    made = plant(module, MODES[1])  # the hash is that of OTHER
    check_bytecode([module])
    plant(module, MODES[0])
    os.utime(module, (0, 0))
    check_bytecode([module])
    made.write_bytes(b"of another Python")
    check_bytecode([module, module.with_name("gone.py"), module.with_name("native.so")])


@pytest.mark.parametrize("rest", [b"", b"\0", b"?", b"i\0\0\0\0"])
def test_damaged_bytecode_is_other_code(module: Path, rest: bytes) -> None:
    made = plant(module, MODES[2])
    made.write_bytes(made.read_bytes()[:16] + rest)
    with pytest.raises(PvError, match="holds other code than"):
        check_bytecode([module])


def test_bytecode_that_is_replaced_is_read_anew(module: Path) -> None:
    made = Path(py_compile.compile(str(module), doraise=True) or "")
    check_bytecode([module])
    data = made.read_bytes()
    made.write_bytes(data[:16] + plant(module, MODES[0]).read_bytes()[16:])
    with pytest.raises(PvError, match="holds other code than"):
        check_bytecode([module])


def test_what_pytest_keeps_of_a_module_with_asserts_is_compared_with_what_pytest_makes_of_it(
    module: Path, pytestconfig: pytest.Config
) -> None:
    head, code = rewrite._rewrite_test(module, pytestconfig)
    assert code != compile(SOURCE, str(module), "exec", dont_inherit=True)
    kept = rewrite.get_cache_dir(module) / f"one{rewrite.PYC_TAIL}"
    kept.parent.mkdir()
    with kept.open("wb") as stream:
        rewrite._write_pyc_fp(stream, head, code)
    check_bytecode([module])
    source = module.with_name("two.py")
    source.write_text(OTHER)
    with kept.open("wb") as stream:
        rewrite._write_pyc_fp(stream, head, rewrite._rewrite_test(source, pytestconfig)[1])
    with pytest.raises(PvError, match=f"{kept}: holds other code"):
        check_bytecode([module])


def test_where_bytecode_lies_elsewhere_it_is_looked_for_there(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "kept"))
    made = plant(module, MODES[2])
    assert made == Path(cache_from_source(str(module)))
    assert made.is_relative_to(tmp_path / "kept")
    with pytest.raises(PvError, match="holds other code than"):
        check_bytecode([module])
