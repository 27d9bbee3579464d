"""Measure what honest arithmetic errs by at each stage of a model: float32, float16 and int8 activations."""

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from engine.commands import MODEL, note
from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.floor_file import Floor

EXAMPLE = "example: apr floor smollm2-135m --output smollm2-135m.json; apr floor smollm2-135m.json prints it again"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    parser.add_argument("model", metavar="MODEL", help=f"{MODEL}; or a .json that --output wrote, to be printed")
    parser.add_argument("--prompts", metavar="FILE", help="text, a prompt in each line (default: 7 of different kinds)")
    parser.add_argument(
        "--oracle",
        action="append",
        metavar="NAME[:DTYPE]",
        help="transformers or llama-cpp: compare it with float64, and with each other oracle; may be given again",
    )
    parser.add_argument("--output", metavar="FILE", help="write the floor there, as JSON (schema apr-floor/1)")
    parser.add_argument("--json", action="store_true", help="print that JSON instead of tables")


def run(args: argparse.Namespace) -> int:
    from engine.floor_file import read_floor, write_floor
    from engine.outputs import file_at

    if args.model.endswith(".json"):
        for flag in ("prompts", "oracle", "output"):
            if getattr(args, flag) is not None:
                raise EngineError("a floor that is measured already is only printed", where=f"--{flag}")
        floor = read_floor(Path(args.model))
    else:
        output = None if args.output is None else file_at("--output", args.output)
        floor = measured(args)
        if output is not None:
            write_floor(output, floor)
            note(f"written to {output}")
    print(json.dumps(floor.as_json(), sort_keys=True) if args.json else floor.as_text())
    return 0


def measured(args: argparse.Namespace) -> "Floor":
    """The floor that the flags ask for."""
    from importlib.metadata import version

    from engine.floor import ARITHMETICS, PROMPTS, measure_floor
    from engine.floor_file import Floor, Prompt, UsedOracle
    from engine.generate import check_prompt
    from engine.opening import identity_beside, open_model
    from engine.oracles import open_oracle
    from engine.registry import locate
    from engine.trace_folder import TracedModel

    texts = {f"prompt {number} of the default": text for number, text in enumerate(PROMPTS, 1)}
    if args.prompts is not None:
        texts = prompts_in(Path(args.prompts))
    place = locate(args.model)
    with ExitStack() as stack:
        sha256 = stack.enter_context(identity_beside(place))
        opened = open_model(place)
        config = opened.model.config
        prompts = []
        for where, text in texts.items():
            prompts.append(Prompt(text, tuple(opened.tokenizer.encode(text))))
            check_prompt(prompts[-1].tokens, config.context, where=where)
        oracles = {}
        for asked in args.oracle or ():
            name, colon, dtype = asked.partition(":")
            if colon and name == "llama-cpp":
                raise EngineError(f"{name} chooses its types by itself", where="--oracle", hint=f"write {name} alone")
            oracle = open_oracle(name, place, **({"dtype": dtype} if colon else {}))
            stack.callback(oracle.close)
            used = UsedOracle(oracle.name, oracle.variant, oracle.engine, tuple(oracle.missing))
            if used.label in oracles:
                raise EngineError(f"{used.label} is asked for twice", where="--oracle", hint="name it once")
            oracles[used.label] = used, oracle
        rows = measure_floor(
            opened.model,
            [prompt.tokens for prompt in prompts],
            {label: oracle for label, (_, oracle) in oracles.items()},
            note,
        )
        return Floor(
            package=version("pv-contracts"),
            numpy=version("numpy"),
            model=TracedModel(config.name, sha256(), config.architecture),
            prompts=tuple(prompts),
            arithmetics=ARITHMETICS,
            oracles=tuple(used for used, _ in oracles.values()),
            rows=rows,
        )


def prompts_in(path: Path) -> dict[str, str]:
    """The lines of a file that are not blank, by where they stand; raises EngineError for one without any."""
    from engine.json_files import read_text

    lines = read_text(path).splitlines()
    found = {f"{path}:{number}": line for number, line in enumerate(lines, 1) if line.strip()}
    if not found:
        raise EngineError("holds no prompt", where=str(path), hint="write one in each line")
    return found
