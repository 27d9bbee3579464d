"""The error that a user of pv can put right."""


class PvError(Exception):
    """Something the user can put right: what is wrong, where, and what to do now. All else keeps its traceback."""

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.where, self.hint = where, hint

    def __str__(self) -> str:
        head = f"{self.where}: {self.args[0]}" if self.where else str(self.args[0])
        return f"{head}\n  hint: {self.hint}" if self.hint else head
