"""How often `apr bisect` finds a planted fault, names its stage and layer, and accuses what is right.

    python -m benchmarks.localise [--models NAME ..] [--quick] [--json]

For every fault of falsifiers.faults in each model that can show it: detected (DIVERGES)? Is the first stage and layer
that is named the first that is wrong, and is nothing named that is right? Over clean pairs: how many are said to
diverge? Beside it, on the same cases and the same arrays, the practised method: the first stage in the order of
execution whose cumulative cosine is below 0.999, and below 0.99.

The oracle's pass and the floors are computed once for all faults of a model. Faults of the tokenizer are tried beside
another engine, since our paths share it. Where `transformers` and `llama-cpp` are not installed, their pairs and these
faults are left out, and that is said. --quick: each fault in one model, and fewer pairs.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numba

from benchmarks.localise_cases import LIMITS, MODELS, Outcome, fault_cases, fault_outcome, forget, pair_outcome, pairs
from engine.errors import EngineError
from engine.oracles import MissingLibraryError
from engine.variants import VARIABLE, available, chosen


def measure(
    models: Sequence[str], *, quick: bool, tell: Callable[[str], None]
) -> tuple[list[Outcome], list[Outcome], list[str]]:
    """The outcomes of the faults and of the clean pairs, and what was left out."""
    faults, left = [], []
    current = ""
    for fault, name in fault_cases(models, each=not quick):
        if name != current:
            forget()
            current = name
        try:
            faults.append(fault_outcome(fault, name))
        except MissingLibraryError as error:
            left.append(f"{name}: {fault.name}: {error.args[0]}")
            continue
        tell(f"{name}: {fault.name}: {_verdict(faults[-1])}")
    forget()
    clean, missing = [], set[str]()
    for pair in pairs(models, threads=min(2, int(numba.config.NUMBA_NUM_THREADS)), quick=quick):
        if pair.engine in missing:
            continue
        try:
            clean.append(pair_outcome(pair))
        except EngineError as error:
            missing.add(pair.engine)
            left.append(f"pairs with {pair.engine}: {error.args[0]}")
            continue
        tell(f"{pair.model}: {pair.text}: {_verdict(clean[-1])}")
    if not quick:
        for variant in available():
            if variant != chosen():
                clean += _of_variant(variant, models)
                tell(f"variant {variant}: {len(clean)} pairs so far")
    return faults, clean, left


def _of_variant(variant: str, models: Sequence[str]) -> list[Outcome]:
    """The clean pairs of another variant of the kernels, which takes another process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.localise_cases", *models],
        env={**os.environ, VARIABLE: variant},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [_read(json.loads(line)) for line in done.stdout.splitlines()]


def _read(entry: dict[str, Any]) -> Outcome:
    places = {limit: place and tuple(place) for limit, place in entry["practised"].items()}
    return Outcome(**{**entry, "named": [tuple(place) for place in entry["named"]], "practised": places})


def _verdict(one: Outcome) -> str:
    if not one.fault:
        return one.verdict if not one.detected else f"FALSE ALARM at {one.named} {one.findings}"
    return "exact" if one.exact else f"{one.verdict}, named {one.named[:3]} {one.findings}, wrong {one.wanted[:2]}"


def table(faults: Sequence[Outcome], clean: Sequence[Outcome]) -> str:
    """The figures in Markdown."""
    rows = [
        ("`apr bisect`", [one.detected for one in faults], [one.exact for one in faults],
         [one.detected for one in clean])
    ]  # fmt: skip
    for limit in LIMITS:
        below = [one.practised[str(limit)] is not None for one in faults]
        alarms = [one.practised[str(limit)] is not None for one in clean]
        exact = [one.practised_exact(limit) for one in faults]
        rows.append((f"first cosine below {limit}", below, exact, alarms))
    lines = ["| method | detected | exact stage and layer | false alarms |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {_share(detected)} | {_share(exact)} | {_share(alarms)} |"
        for name, detected, exact, alarms in rows
    ]
    return "\n".join(lines)


def by_model(faults: Sequence[Outcome]) -> str:
    """The same of `apr bisect` alone, for each model."""
    lines = ["| model | faults | detected | exact |", "|---|---|---|---|"]
    for name in dict.fromkeys(one.model for one in faults):
        own = [one for one in faults if one.model == name]
        lines.append(
            f"| {name} | {len(own)} | {_share([one.detected for one in own])} | {_share([one.exact for one in own])} |"
        )
    return "\n".join(lines)


def misses(faults: Sequence[Outcome], clean: Sequence[Outcome]) -> list[str]:
    """What was not found, not named exactly, or accused though it is right: a line each."""
    wrong = [one for one in faults if not (one.detected and one.exact)]
    return [f"{one.model}: {one.fault}: {_verdict(one)}" for one in wrong] + [
        f"{one.model}: clean: {one.pair}: {_verdict(one)}" for one in clean if one.detected
    ]


def _share(flags: Iterable[bool]) -> str:
    counted = list(flags)
    return f"{sum(counted)} of {len(counted)}" + (f" ({100 * sum(counted) / len(counted):.1f} %)" if counted else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME",
                        help=f"of {', '.join(MODELS)} (default: all)")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="each fault in one model, and fewer clean pairs")
    parser.add_argument("--json", action="store_true", help="every case as one JSON object")
    args = parser.parse_args()
    faults, clean, left = measure(
        args.models, quick=args.quick, tell=lambda line: print(line, file=sys.stderr, flush=True)
    )
    if args.json:
        entries = [{**asdict(one), "detected": one.detected, "exact": one.exact} for one in (*faults, *clean)]
        print(json.dumps({"cases": entries, "left_out": left, "variant": chosen()}))
        return
    print(f"{len({one.fault for one in faults})} faults in {len(faults)} cases, {len(clean)} clean pairs\n")
    print(table(faults, clean), by_model(faults), sep="\n\n", end="\n\n")
    print("Missed:", *(misses(faults, clean) or ["nothing"]), sep="\n- ")
    for line in left:
        print(f"Left out: {line}")


if __name__ == "__main__":
    main()
