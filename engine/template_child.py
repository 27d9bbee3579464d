"""Renders one chat template, as a program of its own: standard input to standard output.

A template comes with the model, from anywhere. jinja2's sandbox keeps it from the interpreter, but not from asking for
endless time or memory, and only a process can be stopped from outside. So engine.chat starts this file, with a limit on
both.

Input: JSON {template, variables, max_output, max_seconds, max_memory}. Output: JSON {text} or {error}.
"""

import json
import sys
from datetime import datetime
from typing import Any, NoReturn


def render(request: dict[str, Any]) -> str:
    """The template's text; raises jinja2's errors, and ValueError for a text longer than max_output characters."""
    from jinja2 import Undefined
    from jinja2.exceptions import SecurityError, TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Environment(ImmutableSandboxedEnvironment):
        def unsafe_undefined(self, obj: object, attribute: str) -> Undefined:
            """Refuse at once: jinja2's own answer prints as nothing until it is used."""
            raise SecurityError(f"access to attribute {attribute!r} of a {type(obj).__name__!r} object is unsafe")

    def raise_exception(message: object) -> NoReturn:
        raise TemplateError(str(message))

    def tojson(value: object, indent: int | None = None, separators: Any = None, sort_keys: bool = False) -> str:
        """As Transformers: jinja2's own filter escapes for HTML, which no model was trained on."""
        return json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(pattern: str) -> str:
        return datetime.now().strftime(pattern)

    environment = Environment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    environment.filters["tojson"] = tojson
    environment.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)
    parts, length = [], 0
    for part in environment.from_string(request["template"]).generate(**request["variables"]):
        length += len(part)
        if length > request["max_output"]:
            raise ValueError(f"the text is longer than {request['max_output']} characters")
        parts.append(part)
    return "".join(parts)


def main() -> None:
    request = json.load(sys.stdin.buffer)
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (request["max_seconds"],) * 2)
        resource.setrlimit(resource.RLIMIT_AS, (request["max_memory"],) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        answer = {"text": render(request)}
    except MemoryError:
        answer = {"error": "it needs more memory than it may have"}
    except Exception as error:  # whatever a template raises is an answer about the template
        answer = {"error": f"{type(error).__name__}: {error}" if str(error) else type(error).__name__}
    sys.stdout.buffer.write(json.dumps(answer).encode())


if __name__ == "__main__":
    main()
