"""The error that a user of the engine can put right, and values as such an error shows them."""


class EngineError(Exception):
    """Bad input: what is wrong, where (file, key, byte offset), and what to do now. All else keeps its traceback."""

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.where, self.hint = where, hint

    def __str__(self) -> str:
        head = f"{self.where}: {self.args[0]}" if self.where else str(self.args[0])
        return f"{head}\n  hint: {self.hint}" if self.hint else head


def brief(value: object) -> str:
    """repr, cut to a length that fits an error message."""
    if isinstance(value, str) and len(value) > 60:
        return f"{value[:60]!r}..."
    if isinstance(value, tuple):
        return f"({', '.join(map(brief, value[:8]))}{', ...' if len(value) > 8 else ''})"
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:60]}..."
