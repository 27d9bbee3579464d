"""A model's chat template around messages, rendered where it can do no harm (engine.template_child)."""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from engine import template_child
from engine.errors import EngineError

MAX_TEMPLATE = 2**20  # characters; templates of today have up to 20,000
MAX_OUTPUT = 2**22  # characters
MAX_SECONDS = 10  # of processor time
MAX_WAIT = 120  # seconds by the clock, for a machine that is busy with other things
MAX_MEMORY = 2**30  # bytes of address space, the interpreter's own included

_STOPPED = (-signal.SIGXCPU, -signal.SIGKILL)  # what the limit of processor time sends


def render(template: str, messages: Sequence[Mapping[str, Any]], *, bos_token: str, eos_token: str, where: str) -> str:
    """The text that the template makes of messages ({role, content}), ready for the model's answer.

    The variables are those that Transformers gives: messages, add_generation_prompt, bos_token, eos_token, tools,
    documents. Raises EngineError, naming the file `where`, for a template that is wrong, that refuses the messages
    (raise_exception), that reaches for what the sandbox forbids, or that exceeds a limit of this module.
    """
    if len(template) > MAX_TEMPLATE:
        raise _error(f"it has {len(template)} characters, {MAX_TEMPLATE} are allowed", where)
    request = {
        "template": template,
        "variables": {
            "messages": list(messages),
            "add_generation_prompt": True,
            "bos_token": bos_token,
            "eos_token": eos_token,
            "tools": None,
            "documents": None,
        },
        "max_output": MAX_OUTPUT,
        "max_seconds": MAX_SECONDS,
        "max_memory": MAX_MEMORY,
    }
    # -P: no module beside the program, or where the user stands, is taken for one of the standard library
    command = [sys.executable, "-P", template_child.__file__]
    try:
        child = subprocess.run(command, input=json.dumps(request).encode(), capture_output=True, timeout=MAX_WAIT)
    except subprocess.TimeoutExpired:
        raise _error(f"it did not end within {MAX_WAIT} s", where) from None
    if child.returncode in _STOPPED:
        raise _error(f"it did not end within {MAX_SECONDS} s of processor time", where)
    if child.returncode != 0:
        last = child.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise _error(last or f"its process ended with {child.returncode}", where)
    answer = json.loads(child.stdout)
    if "error" in answer:
        raise _error(answer["error"], where)
    return str(answer["text"])


def _error(message: str, where: str) -> EngineError:
    return EngineError(
        f"the chat template cannot be rendered: {message}",
        where=where,
        hint="leave --chat out, or take a file of the model with a corrected tokenizer.chat_template",
    )
