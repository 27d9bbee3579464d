"""Speed of `pv validate` over many contracts, beside PyYAML, which only reads them, and check-jsonschema.

The contracts are made on the spot from those of this repository, under other names and with other ids, some of them
longer than any real one; or they are those of a folder, repeated under other names (--corpus). Each figure is the
median of whole processes, from their start to their end; the rounds of all commands alternate, so that a busy machine
slows them alike. User seconds of all their processes stand beside: they change less when others use the machine too.

check-jsonschema judges by a schema of three keys; it is asked if it is installed in the Python that runs this.
"""

import argparse
import copy
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pv.yaml_loader import load

ROOT = Path(__file__).parents[1]
SOURCES = (
    ROOT / "contracts/apr-cli-trace-save-tensor-v1.yaml",
    ROOT / "tests/contracts/good/kernel-of-the-first-generation.yaml",
    ROOT / "tests/contracts/good/spellings-of-the-second-generation.yaml",
    ROOT / "tests/contracts/good/bound-test.yaml",
)
KEYS_OF_OURS = {"falsifiers", "mutants", "models", "binds_to", "obligations", "tolerance", "covers", "status"}
SCHEMA = {
    "type": "object",
    "required": ["metadata"],
    "properties": {
        "metadata": {"type": "object", "required": ["description"]},
        "falsification_tests": {"type": "array", "items": {"type": "object", "required": ["id"]}},
    },
}
READ = """
import sys, yaml
for path in sys.argv[1:]:
    with open(path, "rb") as stream:
        yaml.load(stream, yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader)
"""
PV = (sys.executable, "-c", "import sys; from pv.cli import main; sys.exit(main())", "validate", "--quiet")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000, help="how many contracts (default: %(default)s)")
    parser.add_argument("--bytes", type=int, default=5250, help="mean size of one (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="timings of each command (default: %(default)s)")
    parser.add_argument("--ours", action="store_true", help="let them name falsifiers: their project is looked at too")
    parser.add_argument("--corpus", type=Path, help="repeat the contracts in this folder, as they are, and make none")
    args = parser.parse_args()
    if min(args.files, args.bytes, args.rounds) < 1:
        parser.error("each number must be at least 1")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        folder = place / "contracts"
        folder.mkdir()
        if args.corpus:
            repeat(sorted(args.corpus.glob("*.yaml")), folder, args.files)
        else:
            make(folder, args.files, args.bytes, ours=args.ours)
        files = sorted(folder.iterdir())
        print(f"{len(files)} contracts, {sum(file.stat().st_size for file in files)} bytes, {args.rounds} rounds")
        return compare(commands(folder, files, place), args.rounds, place)


def commands(folder: Path, files: Sequence[Path], place: Path) -> dict[str, list[str]]:
    names = [str(file) for file in files]
    found = {
        "pv, cold": [*PV, "--no-cache", str(folder)],
        "pv, one process": [*PV, "--no-cache", "--jobs", "1", str(folder)],
        "pv, warm": [*PV, str(folder)],
        "pv, one file": [*PV, "--no-cache", names[0]],
        "PyYAML": [sys.executable, "-c", READ, *names],
    }
    if importlib.util.find_spec("check_jsonschema"):
        schema = place / "schema.json"
        schema.write_text(json.dumps(SCHEMA), encoding="utf-8")
        found["check-jsonschema"] = [sys.executable, "-m", "check_jsonschema", "--schemafile", str(schema), *names]
    else:
        print("check-jsonschema is not installed: pip install check-jsonschema to see it beside")
    return found


def compare(commands: dict[str, list[str]], rounds: int, place: Path) -> int:
    environment = {**os.environ, "PV_CACHE_DIR": str(place / "cache"), "PYTHONPYCACHEPREFIX": str(place / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody's tools are compiled anew in each process
    subprocess.run(commands["pv, warm"], env=environment, stdout=subprocess.PIPE)  # fills the cache
    wall: dict[str, list[float]] = {name: [] for name in commands}
    user: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            before, start = os.times().children_user, time.perf_counter()
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            wall[name].append(time.perf_counter() - start)
            user[name].append(os.times().children_user - before)
            if done.returncode not in (0, 1):  # 1: it has judged, and found something
                print(f"{name} exits with {done.returncode}:\n{done.stdout[-2000:]}", file=sys.stderr)
                return 1
    base = statistics.median(user["pv, cold"])
    print(f"{'command':<18} {'seconds':>8} {'best':>8} {'user s':>8} {'user / pv cold':>15}")
    for name in commands:
        seconds, used = statistics.median(wall[name]), statistics.median(user[name])
        print(f"{name:<18} {seconds:8.3f} {min(wall[name]):8.3f} {used:8.3f} {used / base:15.2f}")
    return 0


def repeat(sources: Sequence[Path], folder: Path, count: int) -> None:
    """The same contracts again and again, each time under another name."""
    if not sources:
        raise SystemExit("the corpus holds no *.yaml")
    for number in range(count):
        source = sources[number % len(sources)]
        (folder / f"{source.stem}-{number}.yaml").write_bytes(source.read_bytes())


def make(folder: Path, count: int, size: int, *, ours: bool) -> None:
    """Contracts of different lengths, their mean near `size` bytes."""
    sources = [load(file.read_bytes(), file.name).value for file in SOURCES]
    written = 0
    for number in range(count):
        text = rendered(sources[number % len(sources)], number, size * (number + 1) - written, ours=ours)
        (folder / f"contract-{number}-v1.yaml").write_text(text, encoding="utf-8")
        written += len(text.encode())


def rendered(source: dict[str, Any], number: int, size: int, *, ours: bool) -> str:
    """The contract with ids of its own and, as long as it is shorter than `size`, more falsification tests."""
    contract = copy.deepcopy(source)
    contract["metadata"].pop("depends_on", None)
    contract.pop("verification_summary", None)  # counts what is changed here
    tests = contract.setdefault("falsification_tests", [])
    missing = size - len(written_out(contract))
    tests += [another(index) for index in range(missing // len(written_out([another(0)])))]
    for test in tests:
        test["id"] = f"{test['id']}-{number}"
        for key in () if ours else KEYS_OF_OURS & test.keys():
            del test[key]
    return written_out(contract)


def another(index: int) -> dict[str, str]:
    return {
        "id": f"FALSIFY-TAIL-{index:04}",
        "rule": f"output {index} depends on input {index} alone",
        "prediction": f"with all other inputs set to NaN, output {index} keeps its {index % 7 + 1} bits",
        "if_fails": "a kernel reads past the end of its block; look at the tail of the loop",
        "test": f"python -m kernels.check --case {index} --repeat 3",
    }


def written_out(value: Any) -> str:
    return yaml.dump(value, Dumper=yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper, sort_keys=False)


if __name__ == "__main__":
    raise SystemExit(main())
