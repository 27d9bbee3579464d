"""llama.cpp on a model file, measured as engine.bench measures: `python -m engine.bench_llama_cpp FILE PROMPT ..`.

A process of its own, so that the peak memory is its own; prints samples as JSON.
"""

import json
import sys
import time

from engine.bench import Plan, Samples, peak_bytes


def main() -> None:
    """FILE, and the numbers of a Plan in order: prompt, decoded, rounds, threads."""
    from llama_cpp import Llama

    file, *numbers = sys.argv[1:]
    prompt_tokens, decoded, rounds, threads = map(int, numbers)
    plan = Plan(prompt=prompt_tokens, decoded=decoded, rounds=rounds, threads=threads)
    found: Samples = {name: [] for name in ("load_s", "prefill_tok_s", "decode_tok_s")}
    for round_ in range(rounds + 1):
        start = time.perf_counter()
        llama = Llama(
            file, n_ctx=prompt_tokens + decoded, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False
        )
        loaded = time.perf_counter()
        prompt, single = plan.tokens(llama.n_vocab())
        llama.eval(prompt)
        prefilled = time.perf_counter()
        seconds = []
        for token in single:
            begin = time.perf_counter()
            llama.eval([token])
            seconds.append(time.perf_counter() - begin)
        llama.close()
        if round_:
            found["load_s"].append(loaded - start)
            found["prefill_tok_s"].append(prompt_tokens / (prefilled - loaded))
            found["decode_tok_s"] += [1 / taken for taken in seconds]
    json.dump(found | {"peak_bytes": [float(peak_bytes())]}, sys.stdout)


if __name__ == "__main__":
    main()
