import io

import pytest

from pv.progress import DELAY, Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(stream, times, monkeypatch, term="xterm"):
    """What is written when the clock says `times`, the first at the start, one for each file."""
    monkeypatch.setenv("TERM", term)
    clock = iter(times)
    with Progress(stream, lambda: next(clock)) as progress:
        for _ in times[1:]:
            progress.step()
    return stream.getvalue()


def test_a_long_run_shows_how_far_it_is_and_takes_the_line_away(monkeypatch):
    times = [0, 0.5, DELAY, DELAY + 0.05, DELAY + 0.2]
    assert shown(Terminal(), times, monkeypatch) == "\r2 files checked\r4 files checked\r\x1b[K"


def test_a_short_run_shows_nothing(monkeypatch):
    assert shown(Terminal(), [0, 0.5, 0.9], monkeypatch) == ""


@pytest.mark.parametrize(("stream", "term"), [(io.StringIO(), "xterm"), (Terminal(), "dumb"), (Terminal(), "")])
def test_nothing_is_shown_where_nobody_reads_it(stream, term, monkeypatch):
    assert shown(stream, [0, 5, 9], monkeypatch, term) == ""
