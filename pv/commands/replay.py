"""Make the trial of a record once more, with its seed, model and mutant, and say whether the observation is the same.

Runs the falsifier: use it on evidence of a project that you trust. Exit 0 if all is reproduced, 1 if anything came out
differently, 2 if the trial could not be made.
"""

import argparse
import sys
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("evidence", metavar="EVIDENCE", help="the file of a record, or the beginning of its digest")


def run(args: argparse.Namespace) -> int:
    from pv.compiled import empty_cache

    restore = empty_cache()  # as in a recording run
    try:
        return _run(args)
    finally:
        restore()


def _run(args: argparse.Namespace) -> int:
    from pv.config import find
    from pv.evidence.folder import read
    from pv.evidence.run import trial_name
    from pv.excerpt import printable
    from pv.project import Project
    from pv.replay import chosen, folder_of, replay

    path = Path(args.evidence)
    config = find(Path.cwd())
    if path.exists() and not path.resolve().is_relative_to(config.root.resolve()):
        other = find(path)
        config = other if Project(other).marked else config  # of another project, or brought from elsewhere
    evidence = read(folder_of(path) or config.evidence, remember=False)
    place, record = chosen(evidence, args.evidence)
    print(printable(f"{record.contract}::{trial_name(record)}: {record.outcome}, seed {record.seed}"), flush=True)
    done = replay(record, config, evidence, place)
    for line in done.elsewhere:
        print(printable(f"  environment {line}"))
    if not done.tried:
        print("\n".join(map(printable, f"pv: not replayed: {done.message}".splitlines())), file=sys.stderr)
        return 2
    for line in done.differences:
        print(printable(f"  {line}"))
    if done.differences:
        print(f"not reproduced: {len(done.differences)} differences")
        return 1
    observed, put_out = len(record.observations), len(record.outputs)
    print(f"reproduced: {record.comparisons} comparisons, {observed} observations, {put_out} outputs")
    return 0
