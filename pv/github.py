"""The verdict as workflow commands: GitHub shows them as annotations at the lines of a pull request.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

import os
from pathlib import Path

from pv.excerpt import printable
from pv.findings import ERROR, NOTE, WARNING
from pv.places import place_of
from pv.report import summary
from pv.validate import Verdict

COMMANDS = {ERROR: "error", WARNING: "warning", NOTE: "notice"}


def as_github(verdict: Verdict, workspace: Path | None = None) -> str:
    """A command for each finding, for each file that was not measured, and the verdict as a plain line at the end.

    workspace  the root of the checkout, which paths are relative to; by default what the runner says it is, else the
               current folder
    """
    root = workspace or Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd())
    lines = []
    for found in verdict.findings:
        kind = COMMANDS[ERROR if verdict.rejects(found) else found.severity]
        at = {"file": place_of(found.path, root), "line": str(found.line), "col": str(found.column)}
        if found.end_column:
            at["endColumn"] = str(found.end_column)
        text = f"{found.message}\nhint: {found.hint}" if found.hint else found.message
        lines.append(command(kind, at | {"title": found.rule}, text))
    for path, reason in verdict.declined:
        at = {"file": place_of(path, root)} if path else {}
        lines.append(command("error", at | {"title": "not measured"}, f"{path}: {reason}".removeprefix(": ")))
    return "\n".join([*lines, printable(summary(verdict))])


def command(kind: str, properties: dict[str, str], message: str) -> str:
    """One workflow command, with what would end it early escaped."""
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{kind} {listed}::{_data(message)}"


def _data(text: str) -> str:
    """Line breaks and % as escapes; what else cannot be shown as in any other output."""
    shown = "".join(char if char in "\r\n" else printable(char) for char in text)
    return shown.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
