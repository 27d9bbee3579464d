"""Measure what honest arithmetic errs by at each stage of a model: float32, float16 and int8 activations."""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.commands import MODEL, note
from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.floor_check import Checked
    from engine.floor_file import Floor

EXAMPLE = (
    "example: apr floor smollm2-135m --output smollm2-135m.json; apr floor smollm2-135m.json prints it again; "
    "apr floor smollm2-135m --check smollm2-135m.json measures it again; "
    "exit codes: 0 measured, and what is checked holds; 1 it does not hold; 2 not measured, or it cannot be told here"
)
SHOWN = 8
"""Differences that are printed; --json has all."""


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
    parser.add_argument(
        "--check",
        metavar="FILE",
        help="measure what --output wrote there again, with its prompts and oracles, and compare: exit code 1 if a "
        "number no longer holds",
    )
    parser.add_argument(
        "--json", action="store_true", help="print that JSON instead of tables; with --check, apr-floor-check/1"
    )


def run(args: argparse.Namespace) -> int:
    from engine.floor_file import read_floor, write_floor
    from engine.outputs import file_at

    if args.model.endswith(".json"):
        for flag in ("prompts", "oracle", "output", "check"):
            if getattr(args, flag) is not None:
                what = "a floor that is measured already is only printed"
                hint = f"to measure, name the model: apr floor MODEL --{flag} {'NAME' if flag == 'oracle' else 'FILE'}"
                raise EngineError(what, where=f"--{flag}", hint=hint)
        floor = read_floor(Path(args.model))
    elif args.check is not None:
        return checked(args)
    else:
        output = None if args.output is None else file_at("--output", args.output)
        texts = None if args.prompts is None else prompts_in(args.prompts)
        floor = measured(args.model, texts, args.oracle or ())
        if output is not None:
            write_floor(output, floor)
            note(f"written to {output}")
    print(json.dumps(floor.as_json(), sort_keys=True) if args.json else floor.as_text())
    return 0


def checked(args: argparse.Namespace) -> int:
    """Measure a stored floor again, print what no longer holds, and return the exit code."""
    from engine.floor_check import Checked, compare
    from engine.floor_file import read_floor
    from engine.opening import open_model, sha256_of
    from engine.registry import locate

    for flag in ("prompts", "oracle", "output"):
        if getattr(args, flag) is not None:
            hint = f"leave --{flag} out, or --check"
            raise EngineError("a stored floor is measured again as it was", where=f"--{flag}", hint=hint)
    stored = read_floor(Path(args.check))
    place = locate(args.model)
    sha256 = sha256_of(place)
    if sha256 != stored.model.sha256:
        what = f"was measured on another model, {stored.model.name}, sha256 {stored.model.sha256[:12]}.."
        hint = f"name that one; {args.model} has sha256 {sha256[:12]}.."
        raise EngineError(what, where=args.check, hint=hint)
    encode = open_model(place).tokenizer.encode
    other = tuple(n for n, prompt in enumerate(stored.prompts, 1) if tuple(encode(prompt.text)) != prompt.tokens)
    if other:
        found = Checked(same_sums=True, prompts=other)
    else:
        texts = {f"{args.check}: prompt {n}": prompt.text for n, prompt in enumerate(stored.prompts, 1)}
        asked = [f"{each.name}:{each.variant}" if each.name == "transformers" else each.name for each in stored.oracles]
        found = compare(stored, measured(args.model, texts, asked), named_by_folder=place.is_dir())
    print(json.dumps(as_json(found)) if args.json else as_text(found, args.check))
    return 0 if found.holds else 2 if found.undecided else 1


def as_json(found: "Checked") -> dict[str, Any]:
    """The comparison, schema apr-floor-check/1; a number that is infinite is "inf", one that is missing null."""

    def plain(number: float | None) -> float | str | None:
        return "inf" if number == math.inf else number

    return {
        "schema": "apr-floor-check/1",
        "holds": found.holds,
        "undecided": found.undecided,
        "numbers": found.numbers,
        "same_sums": found.same_sums,
        "prompts": list(found.prompts),
        "model": list(found.model),
        "notes": list(found.notes),
        "groups": [
            {
                "name": group.name,
                "numbers": group.numbers,
                "tight": group.tight,
                "largest": plain(group.largest),
                "allowed": group.allowed,
            }
            for group in found.groups
        ],
        "different": [
            {"what": each.what, "stored": plain(each.stored), "again": plain(each.again), "allowed": each.allowed}
            for each in found.different
        ],
    }


def as_text(found: "Checked", name: str) -> str:
    """The comparison in lines: the verdict first, then the first differences."""
    if found.prompts:
        some = ", ".join(map(str, found.prompts))
        return f"{name} no longer holds: its prompts {some} have other tokens today; nothing was measured"
    count = f"{len(found.different)} of {found.numbers} numbers differ"
    if found.undecided:
        lines = [
            f"{name} could not be held tightly: numpy sums in another order here, and {count}: measure it again here"
        ]
    elif found.same_sums:
        lines = [f"{name} {'holds' if found.holds else 'no longer holds'}: {count} from those measured again"]
    else:
        verdict = "holds, but not all of it tightly" if found.holds else "no longer holds"
        lines = [f"{name} {verdict}: {count} from those measured again, where numpy sums in another order"]
    lines += [f"  the model's {each}" for each in found.model]
    for each in found.different[:SHOWN]:
        stored, again = ("missing" if number is None else f"{number:g}" for number in (each.stored, each.again))
        lines.append(f"  {each.what}: {stored}, and again {again}; allowed is a factor of {each.allowed:g}")
    if len(found.different) > SHOWN:
        lines.append(f"  .. and {len(found.different) - SHOWN} more: --json has all")
    if not all(group.tight for group in found.groups):
        for group in sorted(found.groups, key=lambda group: not group.tight):
            held = f"held {'tightly' if group.tight else 'loosely'}: {group.numbers} numbers of {group.name}"
            lines.append(f"  {held}, largest factor {group.largest:.3g}, allowed {group.allowed:g}")
    lines += [f"note: {each}" for each in found.notes]
    return "\n".join(lines)


def measured(name: str, texts: Mapping[str, str] | None, asked: Sequence[str]) -> "Floor":
    """The floor of a model.

    texts  the prompts, by where each stands; None: those of engine.floor
    asked  oracles, as the flag names them
    """
    from importlib.metadata import version

    from engine.floor import ARITHMETICS, PROMPTS, measure_floor
    from engine.floor_check import order_of_sums
    from engine.floor_file import Floor, Prompt, UsedOracle
    from engine.generate import check_prompt
    from engine.opening import identity_beside, open_model
    from engine.oracles import MODULES, open_oracle
    from engine.registry import locate
    from engine.suggestion import named
    from engine.trace_folder import TracedModel

    if texts is None:
        texts = {f"prompt {number} of the default": text for number, text in enumerate(PROMPTS, 1)}
    place = locate(name)
    with ExitStack() as stack:
        sha256 = stack.enter_context(identity_beside(place))
        opened = open_model(place)
        config = opened.model.config
        prompts = []
        for where, text in texts.items():
            prompts.append(Prompt(text, tuple(opened.tokenizer.encode(text))))
            check_prompt(prompts[-1].tokens, config.context, where=where)
        oracles = {}
        for each in asked:
            engine, colon, dtype = each.partition(":")
            if colon and engine == "llama-cpp":
                what = f"{engine} chooses its types by itself"
                raise EngineError(what, where="--oracle", hint=f"write {engine} alone")
            named(engine, MODULES, what="oracle", where="--oracle")
            try:
                oracle = open_oracle(engine, place, **({"dtype": dtype} if colon else {}))
            except EngineError as error:
                where = "--oracle" if error.where == "--dtype" else error.where  # a flag of `apr oracle`
                raise EngineError(str(error.args[0]), where=where, hint=error.hint) from None
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
            sums=order_of_sums(),
            model=TracedModel(config.name, sha256(), config.architecture),
            prompts=tuple(prompts),
            arithmetics=ARITHMETICS,
            oracles=tuple(used for used, _ in oracles.values()),
            rows=rows,
        )


def prompts_in(name: str) -> dict[str, str]:
    """The lines of a file that are not blank, by where they stand; raises EngineError for one without any."""
    from engine.json_files import read_text

    hint = "name a text file in UTF-8 with a prompt in each line"
    if not name:
        raise EngineError("the name of the file is empty", where="--prompts", hint=hint)
    try:
        lines = read_text(Path(name)).splitlines()
    except EngineError as error:
        raise EngineError(str(error.args[0]), where=error.where, hint=hint) from None
    found = {f"{name}:{number}": line for number, line in enumerate(lines, 1) if line.strip()}
    if not found:
        raise EngineError("holds no prompt", where=name, hint="write one in each line")
    return found
