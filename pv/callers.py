"""Who is being imported while something happens: a module does that once, for all falsifiers that reach it."""

import sys
from types import FrameType


def importer() -> str:
    """The file of the innermost module whose body runs right now; '' if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "<module>" and not code.co_filename.startswith("<"):
            return code.co_filename
        frame = frame.f_back
    return ""
