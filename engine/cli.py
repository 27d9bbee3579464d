"""Console script `apr`: the modules of engine.commands, and how a process of them ends."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn

from engine.commands import (
    bench,
    bisect,
    determinism,
    diff,
    floor,
    inspect,
    note,
    oracle,
    pull,
    quantize,
    run,
    synth,
    trace,
    warmup,
)
from engine.errors import EngineError
from engine.leaving import leave

MODULES = (run, trace, warmup, diff, inspect, pull, bench, bisect, determinism, floor, oracle, quantize, synth)
"""The commands, a module of that name each, in the order in which the help lists them."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="apr",
        description="Run LLM inference and look into it: GGUF and safetensors models (llama, qwen2), two execution "
        "paths, 20 stages.",
        epilog="Exit codes: 0 done (diff, determinism, bisect: equal), 1 different, 2 bad input or nothing comparable.",
    )
    parser.add_argument("--version", action="version", version=f"apr {version('pv-contracts')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in MODULES:
        name = module.__name__.rpartition(".")[2]
        sub = commands.add_parser(name, help=module.__doc__, description=module.__doc__)
        module.arguments(sub)
        sub.set_defaults(command=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    if sys.stdout is None or sys.stderr is None:  # closed by the caller: the next file opened would take their place
        if sys.stderr is not None:
            print("apr: standard output is closed", file=sys.stderr)
        return 2
    args = build_parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a character that the terminal's encoding lacks must not end a run
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code: int = args.command(args)
        sys.stdout.flush()
        return code
    except EngineError as error:
        print(f"apr: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        discard_output()
        return 141
    except OSError as error:
        if error.filename is not None:
            raise  # not the output's: whoever opens a file names it in an EngineError
        discard_output()
        note(f"the output cannot be written: {error.strerror}")
        return 2
    except KeyboardInterrupt:
        return 130


def program() -> NoReturn:
    """The console script."""
    leave(main())


def discard_output() -> None:
    """Let what is still buffered go nowhere, so that the interpreter does not fail on it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    program()
