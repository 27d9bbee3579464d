"""How the reading of evidence grows: a project of many statements, and the commands that read all of them.

    python -m benchmarks.evidence_scale [--records 100000] [--rounds 5] [--keep DIR]

Prints medians of whole processes: `pv status` cold (no index) and warm, `pv ledger` warm, `pv evidence verify`, for a
tenth of the records and for all of them, and the ratio of the two. Reading the bytes with `cat` stands beside them.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from pv.binding import bind, seed_of
from pv.canonical import sha256
from pv.config import find
from pv.contract import read_contract
from pv.evidence.machine import this_machine
from pv.evidence.run import Run, place_of, run_bytes, trial_name
from pv.outcome import Outcome
from pv.statement import Record, environment, statement_bytes

CONTRACTS, TESTS = 20, 10
PER_RUN = 1000

FALSIFIER = """\
import zlib

from pv.trial import mutant, patched


def sums(trial):
    trial.equal(zlib.adler32(b"a"), 0x620062, "sum")


@mutant
def wrong():
    "Another sum."
    with patched(zlib, "adler32", lambda data: 0):
        yield
"""


def contract(name: str) -> str:
    tests = "".join(
        f"- id: FALSIFY-{name.upper()}-{number:03}\n  rule: r\n  prediction: the sum is 0x620062\n  if_fails: f\n"
        "  binds_to: e\n  falsifiers: {algorithm: 'checks:sums'}\n  mutants: [wrong]\n  status: UNTESTED\n"
        for number in range(TESTS)
    )
    return (
        f"metadata: {{version: 1.0.0, kind: schema, description: {name}, references: [r]}}\n"
        f"equations: {{e: {{formula: a = b, domain: d}}}}\nfalsification_tests:\n{tests}"
    )


def make(root: Path, records: int) -> None:
    """A project with `records` statements: those of today, and older ones of other claims."""
    (root / "contracts").mkdir(parents=True)
    (root / "pyproject.toml").write_text('[tool.pv]\nfirst-party = ["checks"]\n', encoding="utf-8")
    (root / "checks.py").write_text(FALSIFIER, encoding="utf-8")
    today = []
    for number in range(CONTRACTS):
        file = root / "contracts" / f"c{number:02}-v1.yaml"
        file.write_text(contract(f"c{number:02}"), encoding="utf-8")
        read = read_contract(file)
        for test in read.tests:
            binding = bind(read, test, find(root))
            assert binding is not None
            today += [
                Record(
                    contract=binding.contract,
                    test=binding.test,
                    role=plan.role,
                    falsifier=plan.falsifier,
                    mutant=plan.mutant,
                    outcome=Outcome.FALSIFIED if plan.mutant else Outcome.SURVIVED,
                    message="sum: got 0, want 6422626" if plan.mutant else "",
                    seed=seed_of(binding.contract, binding.test, plan.role, plan.model),
                    comparisons=1,
                    observations={"bytes": 12, "note": "as an engine's falsifier would observe", "at": [1, 2, 3]},
                    claim=binding.claim,
                    code=binding.code[plan.falsifier],
                    environment=environment(),
                )
                for plan in binding.planned
            ]
    parents: tuple[str, ...] = ()
    made = generation = 0
    while made < records:
        batch: list[Record] = []
        while len(batch) < min(PER_RUN, records - made):
            old = sha256(b"%d" % generation)
            batch += [replace(record, claim=old) if generation else record for record in today]
            generation += 1
        batch = batch[: min(PER_RUN, records - made)]
        parents = (write(root / "evidence", batch, parents, made),)
        made += len(batch)


def write(folder: Path, batch: list[Record], parents: tuple[str, ...], made: int) -> str:
    """The run as `pytest --falsify --record` leaves it, without an fsync for each of 100,000 files."""
    names = {}
    for record in batch:
        data = statement_bytes(record)
        place = place_of(record, sha256(data))
        names[place] = trial_name(record)
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(data)
    minutes = made // PER_RUN
    run = Run(
        id=f"{made:032x}",
        time=f"2026-01-01T{minutes // 60:02}:{minutes % 60:02}:00Z",
        machine=this_machine(),
        parents=parents,
        records=names,
    )
    data = run_bytes(run)
    (folder / "_runs").mkdir(exist_ok=True)
    (folder / "_runs" / f"{sha256(data)}.json").write_bytes(data)
    return sha256(data)


def seconds(command: list[str], root: Path, cache: Path, rounds: int, *, cold: bool = False) -> float:
    taken = []
    for _ in range(rounds):
        if cold:
            shutil.rmtree(cache, ignore_errors=True)
        begin = time.perf_counter()
        done = subprocess.run(
            command, cwd=root, env={**os.environ, "PV_CACHE_DIR": str(cache)}, capture_output=True, text=True
        )
        taken.append(time.perf_counter() - begin)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", metavar="DIR", help="make the projects here, and leave them")
    args = parser.parse_args()
    pv = str(Path(sys.executable).with_name("pv"))
    commands = {
        "pv status, cold": ([pv, "status"], True),
        "pv status, warm": ([pv, "status"], False),
        "pv ledger, warm": ([pv, "ledger"], False),
        "pv evidence verify": ([pv, "evidence", "verify"], False),
        "cat": (["sh", "-c", "find evidence -type f -print0 | xargs -0 cat | wc -c"], False),
    }
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(args.keep or temporary)
        sizes = (args.records // 10, args.records)
        for records in sizes:
            root = home / f"project-{records}"
            if not root.exists():
                make(root, records)
            for name, (command, cold) in commands.items():
                taken = seconds(command, root, home / f"cache-{records}", args.rounds, cold=cold)
                found.setdefault(name, []).append(taken)
    print(f"{'':<22}{sizes[0]:>10}{sizes[1]:>10}     ratio   (median seconds of {args.rounds})")
    for name, (small, large) in found.items():
        print(f"{name:<22}{small:>10.2f}{large:>10.2f}{large / small:>10.1f}")


if __name__ == "__main__":
    main()
