"""Tests of engine.commands.diff: exit codes, and what is listed."""

import json

import numpy as np
import pytest

from engine import aprt


@pytest.fixture
def two_files(tmp_path):
    values = np.arange(20, dtype=np.float32)
    aprt.write_tensor(tmp_path / "a.bin", 3, values)
    values[[2, 9, 11]] += [0.5, 3, 1]
    aprt.write_tensor(tmp_path / "b.bin", 3, values)
    return tmp_path


def test_diff_exits_with_0_1_or_2(apr, two_files):
    assert apr("diff", "a.bin", "a.bin", "--values")[0] == 0
    code, out, err = apr("diff", "a.bin", "b.bin", "--values")
    assert (code, err) == (1, "")
    assert out
    aprt.write_tensor(two_files / "c.bin", 4, np.zeros(20, np.float32))
    assert apr("diff", "a.bin", "c.bin", "--values")[0] == 2
    code, out, _ = apr("diff", "a.bin", "missing.bin", "--values")
    assert code == 2
    assert "not comparable: missing.bin: no such file or folder" in out


def test_diff_limit_is_the_number_of_differences_listed(apr, two_files):
    sizes = [len(apr("diff", "a.bin", "b.bin", "--values", "--limit", n)[1].splitlines()) for n in (0, 1, 2)]
    assert sizes[0] < sizes[1] < sizes[2]
    code, _, err = apr("diff", "a.bin", "b.bin", "--values", "--limit", -1)
    assert (code, err) == (2, "apr: --limit: -1 differences cannot be listed\n  hint: 0 or more\n")


def test_diff_json_is_one_object(apr, two_files):
    report = json.loads(apr("diff", "a.bin", "b.bin", "--values", "--json")[1])
    assert report["schema"] == "apr-diff/1"


def test_diff_demands_to_be_told_what_it_compares(apr, two_files, capsys):
    with pytest.raises(SystemExit, match="2"):
        apr("diff", "a.bin", "b.bin")
    assert "--values" in capsys.readouterr().err
