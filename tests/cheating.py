"""A small project with honest evidence in a git repository, and the tools of somebody who would rather cheat."""

import hashlib
import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from securesystemslib import dsse, signer

import pv.evidence.signing
import pv.gate
import pv.ledger
import pv.promote
import pv.pytest_session
import pv.replay
from pv.canonical import canonical, parse, sha256
from pv.cli import main
from pv.evidence.folder import Evidence, read
from pv.evidence.machine import Machine
from pv.evidence.run import Run, run_bytes, run_digest
from pv.statement import Record

LOADED = (np, dsse, signer, pv.evidence.signing, pv.pytest_session, pv.gate, pv.ledger, pv.promote, pv.replay)
"""Imported before pytester remembers which modules there are: what a run inside imports is taken out behind it."""

ARM = Machine(cores=("0x41 8 0x3 0xd40 1",), cpu="Neoverse", architecture="aarch64", system="Linux")
MODEL = b"weights of a model" * 20

FILES = {
    "pyproject.toml": '[tool.pv]\nfirst-party = ["subject", "helper", "attacks"]\nmodels = "models.yaml"\n',
    "models.yaml": f"tiny:\n  about: a test\n  licence: none\n  file: tiny.gguf\n  size: {len(MODEL)}\n"
    f"  sha256: {hashlib.sha256(MODEL).hexdigest()}\n",
    "helper.py": "PV_ENVIRONMENT = 'MODULUS'\n\n\n"
    "def modulus():\n    import os\n\n    return int(os.environ.get('MODULUS', '251'))\n",
    "subject.py": """\
import sys


def checksum(data):
    from helper import modulus

    return sum(data) % modulus()


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as stream:
        print(checksum(stream.read()))
""",
    "attacks.py": """\
import os
import subprocess
import sys

import subject
from pv.trial import mutant


def small(trial):
    data = bytes(trial.rng.integers(0, 256, 4096, dtype="uint8"))
    trial.at_most(subject.checksum(data), min(250, trial.tolerance), "checksum")
    trial.equal(subject.checksum(b"\\xfa\\x05"), 4, "checksum of 255")


def small_of_a_file(trial):
    command = [sys.executable, subject.__file__, str(trial.model.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    trial.output("checksum", done.stdout.encode())
    trial.at_most(int(done.stdout), trial.tolerance, "checksum of the file")
    trial.equal(int(done.stdout), sum(trial.model.path.read_bytes()) % 251, "checksum of the file")


def order(trial):
    trial.equal(subject.checksum(b"ab"), subject.checksum(b"ba"), "checksum")
    trial.equal(subject.checksum(b"\\xff\\x01"), 5, "checksum of 256")


def _with(modulus):
    before = os.environ.get("MODULUS")
    os.environ["MODULUS"] = modulus
    try:
        yield
    finally:
        del os.environ["MODULUS"]
        if before is not None:
            os.environ["MODULUS"] = before


@mutant
def no_modulus():
    "Forgets the modulus."
    yield from _with("1000000000")


@mutant
def wrong_modulus():
    "Takes the sum modulo 100."
    yield from _with("100")
""",
    "contracts/sum-v1.yaml": """\
metadata:
  version: 1.0.0
  kind: pattern
  description: A checksum of bytes.
  references: [none needed]
equations:
  sum:
    formula: c = sum(b) mod 251
    domain: bytes
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
    algorithm: attacks:small
    live: attacks:small_of_a_file
  mutants: [no_modulus, wrong_modulus]
  models: [tiny]
  tolerance: {metric: checksum, limit: 250, because: the largest rest modulo 251}
  status: UNTESTED
- id: FALSIFY-SUM-002
  rule: the order does not matter
  prediction: 2 checksums are equal
  if_fails: bytes are weighted
  binds_to: sum
  falsifiers:
    algorithm: attacks:order
  mutants: [no_modulus, wrong_modulus]
  status: UNTESTED
""",
}
RECORDING = ("--falsify", "--record")
MUTANTS = "  mutants: [no_modulus, wrong_modulus]\n"


class Repository:
    """The project, all levels earned and stated; `base` is the commit at which nothing is wrong."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester, self.path = pytester, pytester.path
        self.fresh = True  # whether __pycache__ is emptied before a run, for modules of one size follow too fast
        for name, text in FILES.items():
            self.write(name, text)
        (self.path / "tiny.gguf").write_bytes(MODEL)
        (self.path / ".gitignore").write_text("__pycache__\n*.egg-info\n", encoding="utf-8")
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.email", "a@example.org")
        self.git("config", "user.name", "A")
        self.commit()
        self.record()
        self.promote()
        self.base = self.commit()

    # files

    def write(self, name: str, text: str) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text, encoding="utf-8")

    def change(self, name: str, *changes: tuple[str, str], count: int = 1) -> None:
        text = (self.path / name).read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new, count)
        self.write(name, text)

    def contract(self, *changes: tuple[str, str], version: str = "") -> None:
        """Change the contract, and its version where one is given."""
        self.change("contracts/sum-v1.yaml", *changes)
        if version:
            name = self.path / "contracts/sum-v1.yaml"
            text = re.sub(r"^  version: .*$", f"  version: {version}", name.read_text(), flags=re.M)
            name.write_text(text, encoding="utf-8")

    # commands

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "x")
        return self.git("rev-parse", "HEAD")

    def record(self, *arguments: str) -> pytest.RunResult:
        if self.fresh:
            shutil.rmtree(self.path / "__pycache__", ignore_errors=True)
        return self.pytester.runpytest_inprocess(
            *("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:randomly"),
            "--falsify",
            "--record",
            *arguments,
        )

    def promote(self) -> None:
        main(["promote", "--write"])

    def settle(self) -> None:
        """What an honest author does after a change: record, promote, commit."""
        self.record()
        self.promote()
        self.commit()

    # evidence

    @property
    def folder(self) -> Path:
        return self.path / "evidence"

    def evidence(self) -> Evidence:
        return read(self.folder, remember=False)

    def place(self, trial: str) -> str:
        """The place of the newest record of a trial, by 'ID[suffix]'."""
        return [place for place, fact in self.evidence().facts.items() if fact.trial == trial][-1]

    def head(self) -> tuple[str, Run]:
        found = self.evidence().chain
        return found.heads[-1], found.runs[found.heads[-1]]

    def rewrite_record(self, place: str, change: Callable[[dict[str, Any]], None]) -> str:
        """Edit a record, and give its file the name that its new bytes ask for."""
        path = self.folder / place
        value: Any = parse(path.read_bytes())
        change(value)
        data = canonical(value)
        path.unlink()
        new = path.with_name(f"{sha256(data)}.json")
        new.write_bytes(data)
        return new.relative_to(self.folder).as_posix()

    def put_run(self, run: Run) -> str:
        (self.folder / "_runs" / f"{run_digest(run)}.json").write_bytes(run_bytes(run))
        return run_digest(run)

    def replace_run(self, digest: str, **changed: Any) -> str:
        """Edit a run statement, and give its file the name that its new bytes ask for."""
        run = self.evidence().chain.runs[digest]
        (self.folder / "_runs" / f"{digest}.json").unlink()
        return self.put_run(replace(run, **changed))

    def plant_bytecode(self, mode: py_compile.PycInvalidationMode) -> None:
        """Break helper.py, and leave bytecode of what it was before, as if it were of what it is."""
        helper = self.path / "helper.py"
        times = helper.stat().st_mtime_ns
        py_compile.compile(str(helper), invalidation_mode=mode, doraise=True)
        self.change("helper.py", ("'251'", "'253'"))
        os.utime(helper, ns=(times, times))
        self.fresh = False

    def break_and_record(self) -> str:
        """The checksum is broken, and evidence of that recorded; then the place of the record that says so."""
        self.change("helper.py", ("'251'", "'253'"))
        self.record()
        (place,) = (
            place
            for place, fact in self.evidence().facts.items()
            if fact.failed and fact.trial == "FALSIFY-SUM-001[algorithm]"
        )
        return place


def on_arm(record: Record) -> Record:
    """The record as another machine would have made it."""
    there = {"cores": ARM.cores[0], "cpu": ARM.cpu, "machine": ARM.architecture, "system": ARM.system}
    return replace(record, environment={**record.environment, **there})


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and output of a `pv` command."""
    capsys.readouterr()
    for name in ("attacks", "subject", "helper"):
        sys.modules.pop(name, None)
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def pv_trial(value: dict[str, Any]) -> dict[str, Any]:
    trial: dict[str, Any] = value["predicate"]["pv_trial"]
    return trial


def as_json(text: str) -> Any:
    return json.loads(text)
