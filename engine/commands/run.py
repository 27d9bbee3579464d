"""Continue a prompt."""

import argparse
import json

from engine.commands import encode, execution_arguments, model_argument, note, open_with_tokenizer, served_by
from engine.errors import EngineError


def arguments(parser: argparse.ArgumentParser) -> None:
    model_argument(parser)
    execution_arguments(parser)
    parser.add_argument("--max-tokens", type=int, default=64, metavar="N", help="default: 64")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0: greedy (default)")
    parser.add_argument("--top-k", type=int, default=0, metavar="K", help="sample among the K likeliest (0: all)")
    parser.add_argument(
        "--top-p", type=float, default=1.0, metavar="P", help="sample among the likeliest that reach P (1: all)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the sampling (default: 0)")
    parser.add_argument("--chat", action="store_true", help="put the prompt into the model's own chat template")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object (schema apr-run/1) instead of streamed text"
    )


def run(args: argparse.Namespace) -> int:
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
