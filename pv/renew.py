"""Writing the baseline from what a run found."""

from pv.baseline import write
from pv.errors import PvError
from pv.judging import Judged, Run, renewed
from pv.places import STDIN, shown
from pv.validate import Verdict


def renew(verdict: Verdict, *, accept_new: bool) -> str:
    """Write the baseline that the settings name; what was done in a line.

    One that is there already only shrinks, unless new findings are accepted. PvError where nothing was measured.
    """
    settings = verdict.settings
    assert settings.baseline is not None
    files = [str(file.path) for file in verdict.checked]
    if not files:
        raise PvError("nothing was measured, so no baseline is written", where=shown(settings.baseline))
    if STDIN in files:
        raise PvError("standard input lies nowhere, so no baseline can hold it", where=shown(settings.baseline))
    first = not settings.baseline.exists()
    judged = Judged(verdict.findings, verdict.suppressed, verdict.known)
    now, old = (
        renewed(judged, settings, Run(files, verdict.lint, verdict.imports), accept_new=first or accept_new),
        settings.known,
    )
    if first or now != old:
        write(settings.baseline, now)
    added, gone = (now - old).total(), (old - now).total()
    return f"{shown(settings.baseline)}: {now.total()} known, {added} added, {gone} taken out"
