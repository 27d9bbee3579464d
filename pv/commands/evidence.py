"""Verify, unite, tidy and sign recorded evidence."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pv.commands import evidence_artifacts, evidence_keygen, evidence_sign
from pv.commands.output import show

if TYPE_CHECKING:
    from pv.evidence.folder import Evidence

FOLDER = "the evidence folder; by default the project's"


def arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, function: object, words: str) -> argparse.ArgumentParser:
        found = commands.add_parser(
            name, help=words[0].lower() + words[1:].rstrip("."), description=words, allow_abbrev=False
        )
        found.set_defaults(evidence_command=function)
        return found

    verifying = command(
        "verify", verify, "Check that nothing was removed, added or edited since it was recorded; offline, no weights."
    )
    verifying.add_argument("folder", nargs="?", metavar="DIR", help=FOLDER)
    verifying.add_argument("--json", action="store_true", help="print the verdict as JSON (schema pv-evidence/1)")

    merging = command("merge", merge, "Take over the runs that other machines recorded, if all of them verify.")
    merging.add_argument("sources", nargs="+", metavar="DIR", help="evidence folders to take the runs of")
    merging.add_argument("--into", metavar="DIR", help=FOLDER)

    collecting = command(
        "gc", collect, "Remove records that no level of today rests on, and leave a statement that says so."
    )
    collecting.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    for name, module in (
        ("sign", evidence_sign),
        ("keygen", evidence_keygen),
        ("artifacts", evidence_artifacts),
    ):
        module.arguments(command(name, module.run, module.WORDS))


def run(args: argparse.Namespace) -> int:
    code: int = args.evidence_command(args)
    return code


def _folder(chosen: str | None) -> Path:
    from pv.config import find

    return Path(chosen) if chosen else find(Path.cwd()).evidence


def verify(args: argparse.Namespace) -> int:
    from pv.config import find
    from pv.errors import PvError
    from pv.evidence.folder import read, require_evidence

    folder = _folder(args.folder)
    if not folder.is_dir() and not folder.is_symlink():
        what = "is no folder" if folder.exists() else "no such folder"
        raise PvError(f"{what}: nothing was verified", where=str(folder), hint="pytest --falsify --record")
    require_evidence(folder)
    found = read(folder, remember=False, trusted=() if args.folder else find(Path.cwd()).trusted_keys)
    print(_as_json(found)) if args.json else show(_as_text(found))
    if found.problems:
        return 1
    if not found.chain.runs:
        print(f"pv: nothing was verified: {folder} holds no run", file=sys.stderr)
        return 2
    return 0


def _as_text(found: "Evidence") -> str:
    from pv.excerpt import printable

    lines = [f"{problem.path}: {problem.why}" for problem in found.problems]
    if lines:
        lines.insert(0, f"the first broken link is {found.problems[0].path}")
    lines += [f"note: {note}" for note in found.notes]
    counts = _counts(found)
    verdict = "does not hold" if found.problems else "holds" if found.chain.runs else "is empty"
    lines.append(
        f"evidence {found.folder}: {counts['runs']} runs, {counts['heads']} heads, {counts['records']} records, "
        f"{counts['machines']} machines; {counts['released']} records released, {counts['pending']} pending; "
        f"{len(found.problems)} problems: the chain {verdict}"
    )
    return "\n".join(map(printable, lines))


def _as_json(found: "Evidence") -> str:
    content = {
        "schema": "pv-evidence/1",
        "folder": str(found.folder),
        "holds": not found.problems and bool(found.chain.runs),
        "counts": _counts(found),
        "heads": list(found.chain.heads),
        "problems": [{"path": problem.path, "why": problem.why} for problem in found.problems],
        "notes": list(found.notes),
    }
    return json.dumps(content, indent=2)


def _counts(found: "Evidence") -> dict[str, int]:
    from pv.evidence.machine import distinct

    runs = found.chain.runs.values()
    gone = {place for run in runs if run.released for place in run.records} - found.facts.keys()
    return {
        "runs": len(runs),
        "heads": len(found.chain.heads),
        "records": len(found.facts),
        "machines": distinct(run.machine for run in runs),
        "released": len(gone),
        "pending": len(found.chain.pending),
        "problems": len(found.problems),
    }


def merge(args: argparse.Namespace) -> int:
    from pv.evidence.merging import BrokenEvidenceError, merge

    folder = _folder(args.into)
    try:
        done = merge(folder, [Path(source) for source in args.sources])
    except BrokenEvidenceError as error:
        print(f"pv: {error}", file=sys.stderr)
        return 1
    for one in done:
        print(f"{one.source}: {one.runs} runs and {one.records} records taken over")
    from pv.evidence.folder import read

    found = read(folder)
    show(_as_text(found))
    return 1 if found.problems else 0


def collect(args: argparse.Namespace) -> int:
    from pv import git
    from pv.config import find
    from pv.evidence import collecting
    from pv.status import survey

    config = find(Path.cwd())
    found = survey(config)
    if found.problems:
        for problem in found.problems:
            print(f"pv: {problem.path}: {problem.why}", file=sys.stderr)
        print("pv: nothing is removed while something cannot be believed", file=sys.stderr)
        return 1 if found.contracts else 2
    unknown = [row for row in found.rows if row.bound and row.binding is None]
    if unknown or not found.contracts:
        why = f"{unknown[0].test.id} {unknown[0].earned.reasons[0]}" if unknown else "there is no contract"
        print(f"pv: nothing is removed: {why}", file=sys.stderr)
        return 2
    places = collecting.idle(found.evidence, {digest for row in found.rows for digest in row.earned.evidence})
    size = collecting.size(found.evidence.folder, places)
    commit, dirty = git.state(config.root, apart=config.evidence)
    if dirty and not args.dry_run:
        print("pv: nothing is removed: commit first, or what the commit needs would go", file=sys.stderr)
        return 2
    if not args.dry_run:
        collecting.release(found.evidence, places, commit=commit, dirty=dirty)
    told = "would be removed" if args.dry_run else "removed"
    print(f"{len(places)} of {found.records} records {told}, {size} bytes")
    return 0
