"""The examples, each copied away from here and used as a stranger would use it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
OURS = ("engine", "falsifiers", "tests")


@pytest.fixture
def checksum(tmp_path: Path) -> Path:
    return shutil.copytree(
        EXAMPLES / "checksum", tmp_path / "checksum", ignore=shutil.ignore_patterns("evidence", "__pycache__", ".*")
    )


def run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """An installed command, in a process that knows nothing of this test's."""
    name, *arguments = command.split()
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST", "PYTHON")) and name != "PV_CACHE_DIR"
    }
    return subprocess.run(
        [str(Path(sys.executable).parent / name), *arguments],
        cwd=folder,
        env={**environment, "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1", "PV_CACHE_DIR": os.devnull},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_checksum_earns_its_levels_and_loses_them_with_a_defect(checksum: Path) -> None:
    assert run(checksum, "pv status --check").returncode == 2  # it states nothing yet, and nothing was measured
    assert run(checksum, "pv validate --strict contracts").returncode == 0
    tried = run(checksum, "pytest -p no:cacheprovider --falsify --record")
    assert tried.returncode == 0, tried.stdout
    assert "trials    2 executed: 2 survived" in tried.stdout
    assert "mutants   3 executed: 3 killed" in tried.stdout
    assert run(checksum, "pv promote --write").returncode == 0
    status = run(checksum, "pv status --check")
    assert status.returncode == 0, status.stdout
    assert [line.split()[1:3] for line in status.stdout.splitlines() if "FALSIFY-" in line] == [["PARTIAL"] * 2] * 2
    assert (checksum / "contracts/adler32-v1.yaml").read_text().count("status: PARTIAL_ALGORITHM_LEVEL") == 2

    code = checksum / "checksum.py"
    code.write_text(code.read_text().replace("65521", "65519"))
    stale = run(checksum, "pv status --check")
    assert stale.returncode == 1
    assert "2 stale" in stale.stdout
    broken = run(checksum, "pytest -p no:cacheprovider --falsify --record")
    assert broken.returncode == 1
    assert "FALSIFIED contracts/adler32-v1.yaml::FALSIFY-ADLER-001[algorithm]: checksum of " in broken.stdout
    status = run(checksum, "pv status --check")
    assert status.returncode == 1
    assert "1 falsified" in status.stdout


def test_an_example_uses_pv_and_nothing_else_of_this_repository() -> None:
    for file in EXAMPLES.rglob("*.py"):
        words = file.read_text().replace(".", " ").split()
        imported = {words[at + 1] for at, word in enumerate(words[:-1]) if word in ("import", "from")}
        assert imported.isdisjoint(OURS), file


def test_an_example_keeps_no_evidence_of_its_own() -> None:
    assert not list(EXAMPLES.rglob("evidence"))
