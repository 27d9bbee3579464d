"""Tests of engine.bisection.page: one file that says in text what it shows in colour."""

from html.parser import HTMLParser

import numpy as np
import pytest

from engine.bisection.page import DARK, DECADES, LABELS, LIGHT, page
from engine.bisection.report import BisectReport
from engine.bisection.run import bisect
from falsifiers.synthetic import random_model
from tests.engine.bisecting import TOKENS, fast, product_scaled, reference

VOID = {"meta", "br", "link"}


class Reader(HTMLParser):
    """Tags in order, with a check that they are closed as they were opened."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="session")
def read():
    model = random_model(np.random.default_rng(43), "qwen2")
    with product_scaled("down", 1, 1.1):
        found = bisect(fast(model), reference(model), TOKENS)
    model = {"name": "m", "architecture": "qwen2", "file": "m.gguf", "sha256": "0" * 64}
    facts = {"side": "m<1>", "engine": "fast", "path": "fast", "variant": "v", "model": model}
    report = BisectReport(
        version="1",
        subject=facts,
        oracle=facts,
        prompt="<script>alert(1)</script>",
        found=found,
        itself="",
        not_tested=["what both <share>"],
        command=["apr", "a b"],
    )
    reader = Reader()
    reader.feed(page(report))
    reader.close()
    return reader


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(read):
    assert read.open == []
    assert not any(tag in ("script", "img", "link", "iframe") for tag, _ in read.seen)
    assert not any({"src", "href"} & set(attrs) for _, attrs in read.seen)


def test_what_comes_from_outside_is_text(read):
    assert any("<script>alert(1)</script>" in part for part in read.text)
    assert any("m<1>" in part for part in read.text)


def test_the_verdict_comes_first_and_the_defect_with_its_replay_line(read):
    text = "\n".join(read.text)
    body = text.index("No stage") if "No stage" in text else text.index("A stage errs")
    assert text.index("DIVERGES") < body
    assert "ffn_out of layer 1, token" in text
    assert "apr 'a b'" in text


def test_every_cell_says_its_figures_and_marks_what_is_above_the_floor_without_colour(read):
    cells = [attrs for tag, attrs in read.seen if tag == "td" and attrs.get("class")]
    assert len(cells) == 2 * 37
    assert all(attrs["title"] for attrs in cells)
    marked = [attrs["title"] for attrs in cells if "beyond" in attrs["class"]]
    assert marked
    assert marked[0].startswith("ffn_out of layer 1: error ")
    assert sum(tag == "b" for tag, _ in read.seen) == len(marked)


def test_what_was_not_tested_stands_among_the_decisive_facts(read):
    assert read.text[read.text.index("not tested") + 1] == "what both <share>"


def test_the_legend_has_a_label_and_a_colour_of_each_scheme_for_every_decade():
    assert len(LABELS) == len(LIGHT) == len(DARK) == len(DECADES) + 1


@pytest.mark.parametrize(("colours", "ink"), [(LIGHT, "#1c2024"), (DARK, "#e6e9ec")])
def test_figures_can_be_read_on_every_colour(colours, ink):
    """Contrast of at least 4.5, as WCAG 2 asks of text; the last colour carries white."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    for colour in colours:
        on = "#ffffff" if colour == colours[-1] else ink
        low, high = sorted((luminance(colour), luminance(on)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, colour
