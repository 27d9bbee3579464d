"""What recording survives: kills at random moments, many runs at once, edits of single bytes.

    python -m benchmarks.evidence_faults [--kills 200] [--at-once 8] [--edits 10000] [--seed 0]

Half of the kills meet `pytest --falsify --record` in a project of its own, half a process that does nothing but keep
runs, since that is where a kill could do harm. After each kill the chain must verify; what the next run records must
complete it. Exit 1 if anything was lost, duplicated, half written, or an edit was not found.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.evidence_scale import make as make_many
from pv.evidence.folder import read

PROJECT = {
    "pyproject.toml": '[tool.pv]\nfirst-party = ["sums"]\n',
    "sums.py": """\
import zlib

from pv.trial import mutant, patched


def adler(trial):
    for size in range(100):
        data = trial.rng.bytes(size)
        a, b = 1, 0
        for byte in data:
            a = (a + byte) % 65521
            b = (b + a) % 65521
        trial.equal(zlib.adler32(data), b << 16 | a, f"sum of {size} bytes")


@mutant
def forgets():
    "Forgets the high half."
    true = zlib.adler32
    with patched(zlib, "adler32", lambda data: true(data) & 0xFFFF):
        yield
""",
    "contracts/sums-v1.yaml": """\
metadata: {version: 1.0.0, kind: pattern, description: A checksum., references: [RFC 1950]}
equations: {adler: {formula: s = b * 65536 + a, domain: bytes}}
falsification_tests:
"""
    + "".join(
        f"""\
- id: FALSIFY-ADLER-{number:03}
  rule: the sum is that of RFC 1950
  prediction: 100 sums of 0 to 99 bytes are equal
  if_fails: zlib is broken
  binds_to: adler
  falsifiers: {{algorithm: 'sums:adler'}}
  mutants: [forgets]
  status: UNTESTED
"""
        for number in range(20)
    ),
}
KEEPING = """\
import sys
from dataclasses import replace
from pathlib import Path
from pv.evidence.recording import keep
from pv.outcome import Outcome
from pv.statement import Record, environment
base = Record(contract="c-v1", test="T-0", role="algorithm", falsifier="m:f", outcome=Outcome.SURVIVED, seed=1,
              comparisons=1, claim="01" * 32, code="02" * 32, environment=environment())
records = [replace(base, test=f"T-{n % 7}", seed=int(sys.argv[2]) * 40 + n) for n in range(40)]
print("ready", flush=True)
while True:
    keep(Path(sys.argv[1]), records)
    records = [replace(record, seed=record.seed + 100_000) for record in records]
"""
RECORD = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--falsify", "--record"]


def make(folder: Path) -> Path:
    for name, text in PROJECT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def wrong(evidence: Path) -> list[str]:
    """What does not hold: broken links, and files that are neither statements nor leftovers that are passed over."""
    return [f"{problem.path}: {problem.why}" for problem in read(evidence, remember=False).problems]


def kills(number: int, chance: random.Random, home: Path) -> tuple[list[str], int]:
    """Faults found after `number` kills, and how many kills came in the middle of a run being kept."""
    faults, unfinished = [], 0
    project = make(home / "project")
    keeping = home / "keeping"
    begin = time.perf_counter()
    subprocess.run(RECORD, cwd=project, check=True, capture_output=True)
    whole = time.perf_counter() - begin
    for kill in range(number):
        if kill % 2:
            evidence, delay = project / "evidence", chance.uniform(0, whole)
            process = subprocess.Popen(RECORD, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        else:
            evidence, delay = keeping, chance.uniform(0, 0.25)
            command = [sys.executable, "-c", KEEPING, str(keeping), str(kill)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert process.stdout is not None
            process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        faults += [f"kill {kill}: {fault}" for fault in wrong(evidence)]
        unfinished += bool(read(evidence, remember=False).notes) if evidence.exists() else 0
    done = subprocess.run(RECORD, cwd=project, capture_output=True, text=True)
    if done.returncode or "evidence: 40 recorded" not in done.stdout:
        faults.append(f"the run after the kills did not record: {done.stdout[-500:]}")
    faults += wrong(project / "evidence")
    if read(project / "evidence", remember=False).notes:
        faults.append("the run after the kills left an unfinished one behind")
    if len(read(project / "evidence", remember=False).facts) != 40:
        faults.append(f"{len(read(project / 'evidence').facts)} records after the kills, not 40")
    return faults, unfinished


def at_once(number: int, home: Path) -> list[str]:
    """Faults found after as many recording runs at once."""
    project = make(home / "at-once")
    runs = [subprocess.Popen(RECORD, cwd=project, stdout=subprocess.DEVNULL) for _ in range(number)]
    codes = [run.wait() for run in runs]
    found = read(project / "evidence", remember=False)
    faults = wrong(project / "evidence")
    if any(codes):
        faults.append(f"exit codes {codes}")
    if (len(found.chain.runs), len(found.facts)) != (number, 40):
        faults.append(f"{len(found.chain.runs)} runs and {len(found.facts)} records, not {number} and 40")
    return faults


def edits(number: int, chance: random.Random, home: Path) -> list[str]:
    """Of `number` statements, each edited in one byte, those whose edit was not found."""
    make_many(home / "edits", number)
    evidence = home / "edits" / "evidence"
    files = sorted(evidence.rglob("*.json"))
    for path in files:
        data = path.read_bytes()
        at, flip = chance.randrange(len(data)), chance.randrange(1, 256)
        path.write_bytes(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
    told = {problem.path for problem in read(evidence, remember=False).problems}
    return [f"{path}: the edit was not found" for path in files if str(path) not in told]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--edits", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    os.environ["PV_CACHE_DIR"] = os.devnull
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        faults, unfinished = kills(args.kills, chance, home)
        print(f"{args.kills} kills, {unfinished} of them while a run was being kept: {len(faults)} faults", flush=True)
        found = at_once(args.at_once, home)
        print(f"{args.at_once} recording runs at once: {len(found)} faults", flush=True)
        faults += found
        found = edits(args.edits, chance, home)
        print(f"{args.edits} statements and their runs, each edited in one byte: {len(found)} not found")
        faults += found
    print("\n".join(faults[:20]))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
