"""`pv evidence sign`: sign runs, so that a project with [tool.pv] trusted-keys believes them."""

import argparse
import sys
from pathlib import Path

WORDS = "Sign runs of the evidence: by default the heads, which are the newest ones."


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", metavar="RUN", help="runs to sign, by 8 digits of their digests or more")
    parser.add_argument("--all", action="store_true", help="sign every run that the key has not signed")
    parser.add_argument(
        "--key", metavar="FILE", help="the private key in PEM, or the URI of a signer; by default $PV_SIGNING_KEY"
    )
    parser.add_argument("--public-key", metavar="FILE", help="its public half: needed for the URI of a signer")


def run(args: argparse.Namespace) -> int:
    from pv.config import find
    from pv.errors import PvError
    from pv.evidence.folder import read
    from pv.evidence.keys import public_keys, signer_of
    from pv.evidence.signing import named_runs, problems_of_chain, sign
    from pv.excerpt import printable

    if args.all and args.runs:
        raise PvError("--all signs every run: name no runs beside it")
    config = find(Path.cwd())
    signer = signer_of(args.key, Path(args.public_key) if args.public_key else None)
    trusted = {key.keyid for key in public_keys(config.trusted_keys)}
    found = read(config.evidence, remember=False)
    if problems := problems_of_chain(found):
        for problem in problems:
            print(printable(f"pv: {problem}"), file=sys.stderr)
        print("pv: nothing was signed: nobody can vouch for evidence that does not verify", file=sys.stderr)
        return 1
    everything = list(found.chain.runs)
    runs = everything if args.all else named_runs(found, args.runs) if args.runs else list(found.chain.heads)
    if not runs:
        print(f"pv: nothing was signed: {config.evidence} holds no run", file=sys.stderr)
        return 2
    new = 0
    for digest in runs:
        path = sign(found, digest, signer)
        new += path is not None
        print(printable(f"run {digest[:12]}.. of {found.chain.runs[digest].time}: {path or 'signed already'}"))
    keyid = signer.public_key.keyid
    print(f"{new} of {len(everything)} runs signed, {len(runs) - new} were already, by key {keyid[:16]}")
    if keyid not in trusted:
        print(printable(f"note: [tool.pv] trusted-keys does not name key {keyid[:16]}: its signatures do not count"))
    return 0
