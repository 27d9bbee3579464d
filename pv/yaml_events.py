"""PyYAML's two parsers of a text, each as a function that gives the next event: the one in C, and the one in Python."""

from collections.abc import Callable
from typing import Any


def c_parser(text: str) -> Callable[[], Any]:
    from yaml._yaml import CParser

    return CParser(text).get_event


def pure_parser(text: str) -> Callable[[], Any]:
    from yaml.parser import Parser
    from yaml.reader import Reader
    from yaml.scanner import Scanner

    class PureParser(Reader, Scanner, Parser):
        def __init__(self) -> None:
            Reader.__init__(self, text)
            Scanner.__init__(self)
            Parser.__init__(self)

    return PureParser().get_event
