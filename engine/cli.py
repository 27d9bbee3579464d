"""Console script `apr`: run, trace, diff, inspect, pull, warmup, and the modules of engine.commands."""

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from engine import stages
from engine.commands import MODEL, bench, bisect, determinism, floor, kv_cache_argument, note, oracle, quantize, synth
from engine.errors import EngineError
from engine.leaving import leave
from engine.variants import KV_CACHES, VARIABLE, VARIANTS

if TYPE_CHECKING:
    from engine.model import Model
    from engine.opening import AnyTokenizer

DEFAULT_PROMPT = "What is 2+2?"
DEFAULT_MODEL = "tiny-qwen2"
PAYLOAD_SWITCH = object()
MODULES: dict[str, Any] = {
    "bench": bench,
    "bisect": bisect,
    "determinism": determinism,
    "floor": floor,
    "oracle": oracle,
    "quantize": quantize,
    "synth": synth,
}
"""Commands that are a module of engine.commands each."""


def run(args: argparse.Namespace) -> int:
    """Continue a prompt."""
    from engine.generate import check_prompt, generate
    from engine.paths import open_path
    from engine.sampling import Sampler

    sampler = Sampler(temperature=args.temperature, top_k=args.top_k, top_p=args.top_p, seed=args.seed)
    if args.max_tokens < 1:
        raise EngineError(f"{args.max_tokens} tokens cannot be generated", where="--max-tokens", hint="1 or more")
    model, tokenizer = open_with_tokenizer(args.model)
    prompt = encode(tokenizer, args.prompt, chat=args.chat)
    check_prompt(prompt, model.config.context)
    capacity = min(model.config.context, len(prompt) + args.max_tokens)
    path = open_path(
        model,
        args.path,
        capacity=capacity,
        threads=args.threads,
        variant=args.variant,
        kv_cache=args.kv_cache,
        tell=note,
    )
    decoder = tokenizer.stream()
    tokens: list[int] = []
    text, top, stop = "", [], ""
    for step in generate(path, prompt, sampler, max_tokens=args.max_tokens, end=tokenizer.eos_ids):
        if not tokens:
            best = (-step.logits).argsort(kind="stable")[:5]
            top = [
                {"token": int(i), "text": tokenizer.decode([int(i)], keep_special=True), "logit": float(step.logits[i])}
                for i in best
            ]
        tokens.append(step.token)
        piece = "" if step.stop == "end" else decoder.feed(step.token)
        if step.stop:
            stop, piece = step.stop, piece + decoder.finish()
        text += piece
        if not args.json:
            print(piece, end="", flush=True)
    if args.json:
        answer = {
            "schema": "apr-run/1",
            "model": {"name": model.config.name, "architecture": model.config.architecture, "file": str(model.path)},
            "path": path.name,
            "variant": path.variant,
            "kv_cache": path.kv_cache,
            "prompt": args.prompt,
            "prompt_tokens": prompt,
            "tokens": tokens,
            "text": text,
            "stop": stop,
            "top_first": top,
        }
        print(json.dumps(answer))
        return 0
    print(flush=True)
    reason = {"end": f"end token {tokens[-1]}", "length": "--max-tokens reached", "context": "context full"}[stop]
    note(f"{served_by(path)}; {len(prompt)} prompt tokens, {len(tokens)} generated; {reason}")
    return 0


def trace(args: argparse.Namespace) -> int:
    """Save the tensors of named stages of the prompt's forward pass."""
    if args.output == "":
        raise EngineError(
            "the name of the folder is empty", where="--output", hint="leave the flag out for the default"
        )
    chosen = stages.parse_stages(args.save_tensor)  # before the model is loaded: a typo must not cost a minute
    layers = stages.parse_layers(args.layer) if args.layer is not None else None
    from engine import trace_folder
    from engine.generate import check_prompt
    from engine.opening import identity_beside
    from engine.paths import open_path
    from engine.registry import locate

    place = locate(traced_model(args))
    with identity_beside(place) as sha256:
        model, tokenizer = open_with_tokenizer(str(place))
        if layers is not None and layers.stop > model.config.n_layers:
            raise EngineError(
                f"the model has {model.config.n_layers} layers: {args.layer} ends past them",
                where="--layer",
                hint=f"0..{model.config.n_layers} names them all",
            )
        prompt = encode(tokenizer, args.prompt, chat=False)
        check_prompt(prompt, model.config.context)
        path = open_path(
            model,
            args.path,
            capacity=len(prompt),
            threads=args.threads,
            variant=args.variant,
            kv_cache=args.kv_cache,
            tell=note,
        )
        folder = Path(args.output) if args.output else trace_folder.default_folder(model.path)
        with trace_folder.TraceWriter(folder, stages=chosen, layers=layers or range(model.config.n_layers)) as writer:
            path.forward(prompt, tap=writer.tap)
            manifest = writer.finish(
                engine=version("pv-contracts"),
                model={
                    "name": model.config.name,
                    "sha256": sha256(),
                    "architecture": model.config.architecture,
                },
                prompt=args.prompt,
                tokens=prompt,
                path=path.name,
                variant=path.variant,
                kv_cache=path.kv_cache,
            )
    print(f"{len(manifest.tensors)} tensors in {folder}")
    note(f"{served_by(path)}; {len(prompt)} tokens {' '.join(map(str, prompt))}")
    return 0


def traced_model(args: argparse.Namespace) -> str:
    """The one model that is named: plainly, after --payload, or the default."""
    named = [name for name in (args.model, args.payload) if name not in (None, PAYLOAD_SWITCH)]
    if len(named) > 1:
        raise EngineError(f"two models are named: {' and '.join(named)}", where="--payload", hint="name one")
    return str(named[0]) if named else DEFAULT_MODEL


def diff(args: argparse.Namespace) -> int:
    """Compare two tensor files, or two trace folders, value by value."""
    from engine.diff import diff as compare

    if args.limit < 0:
        raise EngineError(f"{args.limit} differences cannot be listed", where="--limit", hint="0 or more")
    report = compare(args.a, args.b, limit=args.limit)
    print(json.dumps(report.as_json()) if args.json else report.as_text())
    return report.exit_code


def inspect(args: argparse.Namespace) -> int:
    """Say what a model consists of."""
    from engine.inspection import describe, render
    from engine.registry import locate

    facts = describe(locate(args.model))
    print(json.dumps(facts) if args.json else render(facts))
    return 0


def warmup(args: argparse.Namespace) -> int:
    """Compile the kernels of the fast path now, for images and CI, and remove old ones of other versions."""
    from engine import variants
    from engine.model import read_model
    from engine.opening import open_file
    from engine.registry import locate

    models = [read_model(open_file(locate(name))) for name in args.models]
    variants.choose(args.variant)
    from engine.formats import FORMATS
    from engine.kernel_folders import prune
    from engine.kernels import prepared
    from engine.warmup import compile_kernels, formats_of

    start = time.perf_counter()
    names = {name for model in models for name in formats_of(model)} or {fmt.name for fmt in FORMATS.values()}
    compiled = compile_kernels(names, note, KV_CACHES)
    print(f"{compiled} kernels compiled in {time.perf_counter() - start:.1f} s, kept in {prepared.FOLDER}")
    current = Path(prepared.FOLDER)
    folders, nbytes = prune(current)
    if folders:
        print(f"{folders} folders of other versions' kernels removed from {current.parent}: {nbytes:,} bytes")
    return 0


def pull(args: argparse.Namespace) -> int:
    """Obtain a registered model, or one of the Hugging Face hub."""
    from engine import registry

    if "/" in args.name:
        from engine import hub

        print(hub.pull(args.name, registry.cache_folder(), note))
    else:
        print(registry.pull(args.name))
    return 0


def open_with_tokenizer(name: str) -> "tuple[Model, AnyTokenizer]":
    """The model of that name or path, and its tokenizer."""
    from engine.opening import open_model
    from engine.registry import locate

    opened = open_model(locate(name))
    return opened.model, opened.tokenizer


def encode(tokenizer: "AnyTokenizer", prompt: str, *, chat: bool) -> list[int]:
    """Token ids of a prompt; in a chat, of the model's template around it."""
    return tokenizer.encode_chat([{"role": "user", "content": prompt}]) if chat else tokenizer.encode(prompt)


def served_by(path: Any) -> str:
    """Which path and variant ran, for the line that every command prints."""
    threads = ""
    if path.name == "fast":
        slow = "" if path.threading == "omp" else f" by {path.threading}, slower than OpenMP, which is missing"
        threads = f", {path.kv_cache} cache, {path.threads} threads{slow}"
    return f"path {path.name}, variant {path.variant}{threads}"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="apr",
        description="Run LLM inference and look into it: GGUF and safetensors models (llama, qwen2), two execution "
        "paths, 20 stages.",
        epilog="Exit codes: 0 done (diff, determinism: equal), 1 different, 2 bad input or nothing comparable.",
    )
    parser.add_argument("--version", action="version", version=f"apr {version('pv-contracts')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    model_help = f"{MODEL} (default: {DEFAULT_MODEL}, which is part of the package)"

    def command(name: str, function: Any) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        sub.set_defaults(command=function)
        return sub

    def execution(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--prompt", default=DEFAULT_PROMPT, metavar="TEXT", help="default: %(default)r")
        sub.add_argument("--path", default="fast", choices=("fast", "reference"), help="execution path (default: fast)")
        sub.add_argument("--threads", type=int, metavar="N", help="threads of the fast path (default: all cores)")
        variant(sub)
        kv_cache_argument(sub)

    def variant(sub: argparse.ArgumentParser) -> None:
        known = ", ".join(VARIANTS)
        sub.add_argument(
            "--variant",
            metavar="NAME",
            help=f"kernels of the fast path: {known} (default: ${VARIABLE}, or else the fastest that the CPU has)",
        )

    sub = command("run", run)
    sub.add_argument("model", nargs="?", default=DEFAULT_MODEL, metavar="MODEL", help=model_help)
    execution(sub)
    sub.add_argument("--max-tokens", type=int, default=64, metavar="N", help="default: 64")
    sub.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0: greedy (default)")
    sub.add_argument("--top-k", type=int, default=0, metavar="K", help="sample among the K likeliest (0: all)")
    sub.add_argument(
        "--top-p", type=float, default=1.0, metavar="P", help="sample among the likeliest that reach P (1: all)"
    )
    sub.add_argument("--seed", type=int, default=0, metavar="S", help="of the sampling (default: 0)")
    sub.add_argument("--chat", action="store_true", help="put the prompt into the model's own chat template")
    sub.add_argument("--json", action="store_true", help="one JSON object (schema apr-run/1) instead of streamed text")

    sub = command("trace", trace)
    sub.add_argument("model", nargs="?", metavar="MODEL", help=model_help)
    sub.add_argument(
        "--payload",
        nargs="?",
        const=PAYLOAD_SWITCH,
        metavar="MODEL",
        help="before the model, as the public tool has it",
    )
    sub.add_argument(
        "--save-tensor",
        required=True,
        metavar="STAGES",
        help=f"all, or some of: {', '.join(stages.NAMES)}; layer_output is post_ffn_residual",
    )
    sub.add_argument(
        "--output",
        "--save-tensor-dir",
        metavar="DIR",
        help="default: <model-stem>-trace/; made if missing, never cleaned",
    )
    sub.add_argument(
        "--layer",
        "--save-tensor-layers",
        metavar="START..END",
        help="layers START to END - 1 (default: all); whole-model stages are saved regardless",
    )
    execution(sub)

    sub = command("warmup", warmup)
    sub.add_argument("models", nargs="*", metavar="MODEL", help="compile what these need (default: all formats)")
    variant(sub)

    sub = command("diff", diff)
    sub.add_argument("a", type=Path, metavar="A", help="tensor file or trace folder")
    sub.add_argument("b", type=Path, metavar="B", help="the same kind of thing; relative measures are relative to it")
    sub.add_argument(
        "--values", action="store_true", required=True, help="compare values (the one kind of diff there is)"
    )
    sub.add_argument(
        "--limit", type=int, default=5, metavar="N", help="list the first N and the N largest differences (default: 5)"
    )
    sub.add_argument("--json", action="store_true", help="one JSON object (schema apr-diff/1)")

    sub = command("inspect", inspect)
    sub.add_argument("model", nargs="?", default=DEFAULT_MODEL, metavar="MODEL", help=model_help)
    sub.add_argument("--json", action="store_true", help="one JSON object (schema apr-inspect/1)")

    sub = command("pull", pull)
    sub.add_argument(
        "name",
        metavar="NAME",
        help="a registered model, for example smollm2-135m; or OWNER/NAME of the Hugging Face hub, for example "
        "Qwen/Qwen2.5-0.5B-Instruct (safetensors), or OWNER/NAME:FILE.gguf; OWNER/NAME@REVISION is another state of it",
    )

    for name, module in MODULES.items():
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
