"""A stranger's repository for tests of `pytest --falsify`: module, contract, falsifiers, no [tool.pv]."""

from collections.abc import Sequence

import numpy as np  # imported before pytester takes its snapshot of modules: numpy loads once per process
import pytest

import pv.pytest_session  # likewise, so that not every run imports it again

LOADED = (np, pv.pytest_session)

SUBJECT = '''
"""A checksum: the sum of all bytes, modulo 251."""

MODULUS = 251

def checksum(data):
    return sum(data) % MODULUS
'''

FALSIFIERS = '''
import subject
from pv.trial import mutant, patched

def below_modulus(trial):
    """The checksum is below 251."""
    data = bytes(trial.rng.integers(0, 256, 4096, dtype="uint8"))
    trial.observe("worst", {"at": [0], "value": subject.checksum(data)})
    trial.at_most(subject.checksum(data), 250, "checksum")
    trial.equal(subject.checksum(b"\\xfa\\x01"), 0, "checksum of 251")

@mutant
def no_modulus():
    "Forgets the modulus."
    with patched(subject, "MODULUS", 10**9):
        yield

@mutant
def wrong_modulus():
    "Takes the sum modulo 252."
    with patched(subject, "MODULUS", 252):
        yield

def order(trial):
    """The order of the bytes does not matter."""
    trial.equal(subject.checksum(b"ab"), subject.checksum(b"ba"), "checksum")

def reads_the_file(trial):
    trial.check(trial.model.path.stat().st_size > 0, "empty")
'''

CONTRACT = """\
metadata:
  version: 1.0.0
  kind: pattern
  description: A checksum of bytes.
  references: [none needed]
equations:
  sum:
    formula: c = sum(b) mod 251
    domain: bytes
    invariants: [0 <= c <= 250]
proof_obligations:
- {id: OBL-1, type: bound, property: c is at most 250}
falsification_tests:
- id: FALSIFY-SUM-001
  rule: the checksum is small
  prediction: at most 250 for 4096 random bytes
  if_fails: the modulus is lost, look at subject.checksum
  binds_to: sum
  obligations: [OBL-1]
  falsifiers:
    algorithm: attacks:below_modulus
  mutants: [no_modulus, wrong_modulus]
  status: UNTESTED
- id: FALSIFY-SUM-002
  rule: the order does not matter
  prediction: equal checksums
  if_fails: bytes are weighted
  test: a sentence
"""
SECOND = """\
- id: FALSIFY-SUM-003
  rule: the order does not matter
  prediction: equal checksums
  if_fails: bytes are weighted
  binds_to: sum
  falsifiers:
    algorithm: attacks:order
  mutants: [no_modulus]
"""
LIVE = """\
- id: FALSIFY-SUM-004
  rule: the file is read
  prediction: it is not empty
  if_fails: it is empty
  binds_to: sum
  falsifiers:
    live: attacks:reads_the_file
  models: [tiny]
"""
NODE = "contracts/sum.yaml::FALSIFY-SUM-001"


OTHERS = ("cacheprovider", "hypothesispytest", "randomly", "timeout", "rerunfailures")


class Stranger:
    """A repository in which `run` starts pytest."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester, self.path = pytester, pytester.path
        (self.path / "contracts").mkdir()
        self.write("pytest.ini", "[pytest]\naddopts = --strict-markers --strict-config\nfilterwarnings = error\n")
        self.write("subject.py", SUBJECT)
        self.write("attacks.py", FALSIFIERS)
        self.write("contracts/sum.yaml", CONTRACT)
        self.write("test_unit.py", "def test_unit(): pass\n")

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text, encoding="utf-8")

    def change(self, name: str, old: str, new: str) -> None:
        text = (self.path / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, old
        self.write(name, text.replace(old, new))

    def run(self, *arguments: str, others: Sequence[str] = ()) -> pytest.RunResult:
        """pytest, with such plugins of others only as are named, so that each test is about what it says."""
        without = [f"-pno:{name}" for name in OTHERS if name not in others]
        return self.pytester.runpytest_inprocess(*without, "-ra", *arguments)

    def evidence(self) -> dict[str, bytes]:
        folder = self.path / "evidence"
        return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    def records(self) -> dict[str, bytes]:
        """The evidence without the run statements, which tell when and where."""
        return {place: data for place, data in self.evidence().items() if not place.startswith("_runs/")}


@pytest.fixture
def stranger(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Stranger:
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    return Stranger(pytester)
