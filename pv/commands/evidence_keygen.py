"""`pv evidence keygen`: make a key pair that signs evidence."""

import argparse
from pathlib import Path

WORDS = "Make an ed25519 key pair: FILE, for its owner alone, and FILE.pub."


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="where the private key is written; nothing is ever overwritten")


def run(args: argparse.Namespace) -> int:
    from pv.evidence.keys import make_pair
    from pv.excerpt import printable

    key = make_pair(Path(args.file))
    print(printable(f"{args.file}: the private key; keep it out of the repository"))
    print(printable(f"{args.file}.pub: the public key {key.keyid[:16]}; name it in [tool.pv] trusted-keys"))
    return 0
