import platform

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv.evidence import machine as module
from pv.evidence.machine import Machine, cpu_name, distinct, kinds_of_core, this_machine

ZEN = """\
processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
stepping\t: 1
"""
BIG_LITTLE = """\
processor\t: 0
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd03
CPU revision\t: 4

processor\t: 1
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd09
CPU revision\t: 2
"""


def machine(*cores: str, cpu: str = "a cpu") -> Machine:
    return Machine(cores=cores, cpu=cpu, architecture="x86_64", system="Linux")


def test_a_kind_of_core_is_told_by_what_cannot_be_chosen():
    assert kinds_of_core(ZEN + "\n" + ZEN.replace("processor\t: 0", "processor\t: 1")) == ("AuthenticAMD 25 17 1",)
    assert cpu_name(ZEN) == "AMD EPYC"


def test_each_kind_of_core_of_a_machine_is_listed():
    assert kinds_of_core(BIG_LITTLE) == ("0x41 8 0x0 0xd03 4", "0x41 8 0x0 0xd09 2")
    assert cpu_name(BIG_LITTLE) == ""


def test_a_core_that_is_not_told_apart_is_no_kind():
    assert kinds_of_core("processor: 0\nmodel name: x\n") == kinds_of_core("") == ()


def test_this_machine_has_no_name_of_its_own_in_it(monkeypatch):
    found = this_machine()
    assert found.cores
    assert platform.node() not in (*found.cores, found.cpu, found.architecture, found.system)


def test_without_cpuinfo_a_machine_is_known_by_the_name_of_its_processor(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    this_machine.cache_clear()
    try:
        assert this_machine().cores == (f"{platform.machine()} arm",)
        monkeypatch.setattr(platform, "processor", lambda: "")
        this_machine.cache_clear()
        assert this_machine().cores == ()
    finally:
        this_machine.cache_clear()


@pytest.mark.parametrize(
    ("machines", "number"),
    [
        ([], 0),
        ([machine("a")], 1),
        ([machine("a"), machine("a")], 1),
        ([machine("a"), machine("a", cpu="renamed")], 1),
        ([machine("a"), machine("b")], 2),
        ([machine("a", "b"), machine("b")], 1),  # one of its kinds of core was switched off
        ([machine("a"), machine("b"), machine("a", "b")], 1),
        ([machine("a"), machine("b", "c"), machine("c"), machine("d")], 3),
        ([machine()], 1),
        ([machine(), machine("a")], 1),  # unknown cores may be those of the other
    ],
)
def test_machines_that_may_be_one_are_counted_once(machines, number):
    assert distinct(machines) == number


@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=3).map(lambda cores: machine(*sorted(set(cores))))))
def test_copies_and_order_of_machines_do_not_matter(machines):
    assert distinct([*machines, *machines]) == distinct(reversed(machines)) == distinct(machines)
