"""Tests of benchmarks.engine: what it draws is what was measured."""

import re
from xml.etree import ElementTree

from benchmarks.engine import HEIGHT, MARGIN, WIDTH, plot

SVG = "{http://www.w3.org/2000/svg}"


def test_a_plot_shows_every_point_and_none_outside_its_frame():
    points = [(32, 100.0, 200.0), (128, 400.0, 150.0), (4096, 50.0, 20.0)]
    root = ElementTree.fromstring(plot(points))
    lines = [
        [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
        for line in root.iter(f"{SVG}polyline")
    ]
    assert [len(line) for line in lines] == [3, 3]
    for line in lines:
        assert all(MARGIN <= x <= WIDTH - MARGIN and MARGIN <= y <= HEIGHT - MARGIN for x, y in line)
    shares = [[(HEIGHT - MARGIN - y) / (HEIGHT - 2 * MARGIN) for _, y in line] for line in lines]
    assert [round(share, 3) for share in shares[0]] == [0.25, 1.0, 0.125]
    assert [round(share, 3) for share in shares[1]] == [1.0, 0.75, 0.1]
    assert [float(re.search(r"are (\d+)", text.text)[1]) for text in root.iter(f"{SVG}text") if "are" in text.text] == [
        400,
        200,
    ]
