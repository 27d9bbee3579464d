"""`pv evidence artifacts`: the outputs that records name and the project's store keeps."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pv.evidence.artifacts import Artifact
    from pv.evidence.store import Store

WORDS = "List the artifacts that records name, and compare their sizes; exit 1 if one is missing or differs."


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--verify", action="store_true", help="read each and compare its sha256 too")
    parser.add_argument("--fetch", metavar="DIGEST", help="bring one to --output, by 8 digits of its digest or more")
    parser.add_argument("--output", metavar="FILE", help="with --fetch: where to; a file of that name is replaced")


def run(args: argparse.Namespace) -> int:
    from pv.config import find
    from pv.errors import PvError
    from pv.evidence.artifacts import artifacts_of
    from pv.evidence.folder import read
    from pv.evidence.store import open_store
    from pv.excerpt import printable

    if (args.fetch is None) is not (args.output is None):
        raise PvError("--fetch DIGEST and --output FILE go together")
    if args.fetch and args.verify:
        raise PvError("--verify reads every artifact, --fetch brings one: choose")
    config = find(Path.cwd())
    evidence = read(config.evidence)
    artifacts = artifacts_of(evidence.records)
    if (args.fetch or args.verify) and config.store is None:
        raise PvError("no store is named", hint="[tool.pv] store = 's3://bucket/prefix' or 'file:///a/folder'")
    store = open_store(config.store) if config.store else None
    if args.fetch:
        assert store is not None
        return _fetch(artifacts, store, args.fetch, Path(args.output))
    for problem in evidence.problems:
        print(printable(f"pv: {problem.path}: {problem.why}"), file=sys.stderr)
    wrong = len(evidence.problems)
    counts = dict.fromkeys(("present", "missing", "different", "not kept"), 0)
    for one in artifacts:
        state = _state(one, store, verify=args.verify)
        counts[state.partition(":")[0]] += 1
        where = store.shown(one.digest) if store else "no store is named"
        print(printable(f"{one.digest} {one.size} {where} {state} ({one.test} {one.name})"))
    told = ", ".join(f"{number} {state}" for state, number in counts.items() if state != "not kept" or number)
    unread = "; only sizes were compared (--verify reads them)" if counts["present"] and not args.verify else ""
    print(f"artifacts {len(artifacts)} of {len(evidence.facts)} records: {told}{unread}")
    if args.verify and not artifacts:
        print("pv: nothing was verified: no record names an artifact", file=sys.stderr)
        return 2
    if not evidence.facts and not wrong:
        hint = "`pytest --falsify --record` makes records"
        print(f"pv: nothing was looked at: there is no record; {hint}", file=sys.stderr)
        return 2
    return 1 if wrong or counts["missing"] or counts["different"] else 0


def _state(one: "Artifact", store: "Store | None", *, verify: bool) -> str:
    from pv.evidence.store import digest_in, size_in

    if store is None:
        return "not kept"
    size = size_in(store, one.digest)
    if size is None:
        return "missing"
    if size != one.size:
        return f"different: {size} bytes"
    if verify:
        found = digest_in(store, one.digest)
        if found != one.digest:
            return f"different: sha256 {found[:12]}.." if found else "missing"
    return "present"


def _fetch(artifacts: list["Artifact"], store: "Store", name: str, target: Path) -> int:
    from pv.evidence.artifacts import chosen
    from pv.evidence.store import fetch
    from pv.excerpt import printable

    one = chosen(artifacts, name)
    found = fetch(store, one.digest, target)
    if found != one.digest:
        why = f"has sha256 {found[:12]}..: nothing was written" if found else "is missing"
        print(printable(f"pv: {store.shown(one.digest)}: {why}"), file=sys.stderr)
        return 1
    print(printable(f"{target}: {one.size} bytes of {one.digest}"))
    return 0
