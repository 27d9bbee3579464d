"""The training text: what is taken from a source, and on which side of the split it falls."""

import ast

import pytest

from tools import tiny_corpus
from tools.tiny_corpus import Document, documents

SOURCE = '''
# A remark of one line that is long enough to be kept by itself.
x = 1  # a remark beside code is not a text

class Shelf:
    """Holds books.

    In the order of their arrival.
    """

    async def add(self, book):
        "Puts a book on the shelf."
'''


def docstrings(source):
    return [document.text for document in tiny_corpus._docstrings(ast.parse(source), "library")]


def test_a_docstring_stands_under_its_dotted_name_and_answers_a_question():
    assert docstrings(SOURCE) == [
        "library.Shelf\n\nHolds books.\n\nIn the order of their arrival.",
        "<|im_start|>user\nWhat does library.Shelf do?<|im_end|>\n<|im_start|>assistant\nHolds books.<|im_end|>\n",
        "library.Shelf.add\n\nPuts a book on the shelf.",
        "<|im_start|>user\nWhat does library.Shelf.add do?<|im_end|>\n"
        "<|im_start|>assistant\nPuts a book on the shelf.<|im_end|>\n",
    ]


def test_a_comment_counts_only_on_lines_of_its_own():
    texts = [document.text for document in tiny_corpus._comments(SOURCE)]
    assert texts == ["A remark of one line that is long enough to be kept by itself."]


def test_a_question_is_held_out_exactly_when_its_docstring_is():
    for number in range(200):
        source = f'def f():\n    "Returns the number {number} and nothing else."'
        plain, question = tiny_corpus._docstrings(ast.parse(source), "m")
        assert plain.held_out == question.held_out


def test_one_text_in_twenty_is_held_out():
    held_out = sum(Document(str(number), str(number)).held_out for number in range(10_000))
    assert held_out == pytest.approx(500, rel=0.15)


def test_text_is_composed_and_holds_no_control_characters():
    assert tiny_corpus._clean("e\u0301te\u0301 \t\n\x1b[0m.\n\n") == "été\n[0m."


def test_the_library_is_read_from_end_to_end_without_a_text_twice():
    texts = [document.text for document in documents()]
    assert len(texts) == len(set(texts)) > 10_000
    answer = "Return the number of items in a container."
    assert tiny_corpus.chat("What does len do?", answer) in texts
