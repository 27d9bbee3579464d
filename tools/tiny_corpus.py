"""The text that tiny-qwen2 learns from: what the running interpreter's standard library says about itself.

Three sources, all under Python's own licence (PSF-2.0): the docstrings of the library's modules, classes and functions,
its longer comments, and the reference topics behind `help()`. Every docstring also appears as a question with its
first sentence as the answer, so that the chat template leads somewhere.
"""

import ast
import builtins
import hashlib
import importlib
import inspect
import io
import re
import sysconfig
import tokenize
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

IM_START, IM_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
NOT_THE_LIBRARY = {"site-packages", "__pycache__", "test", "tests", "idle_test", "lib2to3"}
"""Folders left out: other people's packages, and tests, whose text is made to trip parsers."""
SHORTEST_COMMENT = 60  # characters; shorter ones say little without their code
SHORTEST_ANSWER, LONGEST_ANSWER = 10, 300
HELD_OUT_OF = 20  # one document in twenty is never trained on

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Document:
    """One piece of text, with the text that decides on which side of the split it falls."""

    text: str
    origin: str

    @property
    def held_out(self) -> bool:
        """Whether this document is kept from training: one in HELD_OUT_OF, by the digest of its origin."""
        digest = hashlib.sha256(self.origin.encode()).digest()
        return int.from_bytes(digest[:4], "big") % HELD_OUT_OF == 0

    @property
    def chat(self) -> bool:
        """Whether this document is a question and its answer."""
        return self.text.startswith(IM_START)


def documents() -> list[Document]:
    """All documents, each text once, in the order of the library's sorted file names.

    The same interpreter version always gives the same list.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    found: dict[str, Document] = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if NOT_THE_LIBRARY.intersection(parts):
            continue
        with tokenize.open(path) as file:  # honours a declared encoding
            source = file.read()
        tree = ast.parse(source)
        module = ".".join(part for part in parts if part != "__init__")
        for document in (*_docstrings(tree, module), *_comments(source)):
            found.setdefault(document.text, document)
    for document in (*_builtins(), *_topics()):
        found.setdefault(document.text, document)
    return list(found.values())


def chat(question: str, answer: str) -> str:
    """One exchange in ChatML, as the model's chat template renders it."""
    return f"{IM_START}user\n{question}{IM_END}\n{IM_START}assistant\n{answer}{IM_END}\n"


def _docstrings(tree: ast.Module, module: str) -> Iterator[Document]:
    for name, node in _named(tree, module):
        yield from _docstring(name, ast.get_docstring(node))


def _docstring(name: str, docstring: str | None) -> Iterator[Document]:
    """A docstring under its dotted name, and the question that its first paragraph answers."""
    text = _clean(docstring or "")
    if not text:
        return
    yield Document(f"{name}\n\n{text}", text)
    answer = " ".join(text.split("\n\n", 1)[0].split())
    if SHORTEST_ANSWER <= len(answer) <= LONGEST_ANSWER:
        yield Document(chat(f"What does {name} do?", answer), text)


def _named(node: ast.AST, name: str) -> Iterator[tuple[str, Documented]]:
    """Everything below `node` that can carry a docstring, with its dotted name, in the order of the source."""
    if isinstance(node, ast.Module):
        yield name, node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name}.{child.name}", child
            yield from _named(child, f"{name}.{child.name}")


def _comments(source: str) -> Iterator[Document]:
    """Blocks of whole-line comments, their signs taken off."""
    block: list[str] = []
    last = -1
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type != tokenize.COMMENT or token.line[: token.start[1]].strip():
                continue
            if token.start[0] != last + 1:
                yield from _comment(block)
                block = []
            block.append(re.sub(r"^#+ ?", "", token.string))
            last = token.start[0]
    except tokenize.TokenError:
        return
    yield from _comment(block)


def _comment(block: list[str]) -> Iterator[Document]:
    text = _clean("\n".join(block))
    if len(text) >= SHORTEST_COMMENT and sum(character.isalpha() for character in text) > len(text) / 2:
        yield Document(text, text)


def _builtins() -> Iterator[Document]:
    """Docstrings of the built-in functions, of the built-in types and of their methods."""
    for name, value in sorted(vars(builtins).items()):
        if name.startswith("_") or not (isinstance(value, type) or inspect.isbuiltin(value)):
            continue  # what the site module adds differs from one installation to the next
        yield from _docstring(name, inspect.getdoc(value))
        for method, member in sorted(vars(value).items() if isinstance(value, type) else ()):
            if not method.startswith("_"):
                yield from _docstring(f"{name}.{method}", inspect.getdoc(member))


def _topics() -> Iterator[Document]:
    """The reference manual's sections that `help('topic')` prints."""
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    for name in sorted(topics):
        text = _clean(topics[name])
        yield Document(text, text)


def _clean(text: str) -> str:
    """NFC (tokenizers of this family differ on anything else), no trailing blanks, no control characters."""
    text = unicodedata.normalize("NFC", text.expandtabs())
    text = "".join(character for character in text if character == "\n" or character.isprintable())
    return "\n".join(line.rstrip() for line in text.splitlines()).strip()
