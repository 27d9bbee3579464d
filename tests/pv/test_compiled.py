"""Machine code that numba put by: whoever records must not believe it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pv.compiled import check_caches, empty_cache

FILES = {
    "pyproject.toml": '[tool.pv]\nfirst-party = ["kernel", "attacks"]\n',
    "kernel.py": "from numba import njit\n\n\n@njit(cache=True)\ndef limit():\n    return 3\n",
    "early.py": "import numba\n",
    "attacks.py": """\
import kernel
from pv.trial import mutant, patched


def small(trial):
    trial.equal(kernel.limit(), 3, "limit")


@mutant
def five():
    "Five."
    with patched(kernel, "limit", lambda: 5):
        yield
""",
    "contracts/k-v1.yaml": """\
metadata: {version: 1.0.0, kind: pattern, description: A limit of three., references: [none needed]}
equations: {e: {formula: c = 3, domain: numbers}}
proof_obligations:
- {id: OBL-1, type: bound, property: c is 3}
falsification_tests:
- id: FALSIFY-K-001
  rule: the limit is three
  prediction: 3 is the limit
  if_fails: look at kernel.limit
  binds_to: e
  obligations: [OBL-1]
  falsifiers: {algorithm: "attacks:small"}
  mutants: [five]
  status: UNTESTED
""",
}


def test_planted_machine_code_is_not_believed_while_evidence_is_recorded(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("NUMBA_CACHE_DIR", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
        environment.pop(name, None)

    def python(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout

    shown = ("-c", "import kernel; print(kernel.limit())")
    assert python(*shown) == "3\n"
    (made,) = (tmp_path / "__pycache__").glob("*.nbc")
    shutil.copy(made, tmp_path / "kept")
    (tmp_path / "kernel.py").write_text(FILES["kernel.py"].replace("return 3", "return 4"))
    assert python(*shown) == "4\n"
    shutil.copy(tmp_path / "kept", made)
    assert python(*shown) == "3\n"  # the source says 4
    falsify = ("-m", "pytest", "-q", "-pno:randomly", "--falsify")
    assert "trials    1 executed: 1 survived" in python(*falsify)  # without --record numba's word is taken
    for early in ((), ("-p", "early")):
        assert "limit: got 4, want 3" in python(*falsify, "--record", *early), early
    told = python(*falsify, "--record", "-p", "kernel")
    assert f"kernel.limit may come from numba's cache in {tmp_path}/__pycache__, which is believed unread" in told
    assert "1 errored" in told


def test_numba_is_given_an_empty_cache_and_its_own_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import config

    monkeypatch.setenv("NUMBA_CACHE_DIR", "mine")
    monkeypatch.setattr(config, "CACHE_DIR", "mine")
    restore = empty_cache()
    folder = os.environ["NUMBA_CACHE_DIR"]
    assert (config.CACHE_DIR, os.listdir(folder)) == (folder, [])
    restore()
    assert (config.CACHE_DIR, os.environ["NUMBA_CACHE_DIR"], os.path.exists(folder)) == ("mine", "mine", False)
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    empty_cache()()
    assert "NUMBA_CACHE_DIR" not in os.environ
    check_caches(["engine.kernels"])
