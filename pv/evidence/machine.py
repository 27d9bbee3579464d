"""Which machine observed something, told by its silicon and its system, never by a name that somebody chose.

Names, addresses, machine-id and boot-id can be chosen or change with a reboot or a container, so they identify nothing
here. The kinds of a machine's cores cannot be chosen without replacing the processor (or lying to pv, which is what
signatures are for). Two machines with the same processor therefore count as one: what they add to each other is little,
and copies of one machine never pass for two.
"""

import functools
import platform
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
X86 = ("vendor_id", "cpu family", "model", "stepping")
ARM = ("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision")
"""The lines of /proc/cpuinfo that name a kind of core."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The facts by which a machine is known.

    cores         its kinds of core, sorted: vendor, family, model, stepping, or what the architecture has for them
    cpu           the processor's name, for the reader
    architecture  as `uname -m`; system: as `uname -s`
    """

    cores: tuple[str, ...]
    cpu: str
    architecture: str
    system: str


@functools.cache
def this_machine() -> Machine:
    """The machine that this process runs on. Without /proc/cpuinfo its cores are known by their name alone."""
    text = ""
    with suppress(OSError):
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    kinds = kinds_of_core(text)
    name = cpu_name(text) or platform.processor() or "unknown"
    architecture = platform.machine()
    if not kinds and name != "unknown":
        kinds = (f"{architecture} {name}",)
    return Machine(cores=kinds, cpu=name, architecture=architecture, system=platform.system())


def cpu_name(cpuinfo: str) -> str:
    """The name of the first processor that /proc/cpuinfo lists; '' if it names none."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Processor", "cpu model"):
            return value.strip()
    return ""


def kinds_of_core(cpuinfo: str) -> tuple[str, ...]:
    """The kinds of core that /proc/cpuinfo lists, each once, sorted; a core that is not told apart is left out."""
    found = set()
    for block in cpuinfo.split("\n\n"):
        lines = (line.partition(":") for line in block.splitlines())
        facts = {key.strip(): value.strip() for key, _, value in lines}
        for keys in (X86, ARM):
            if all(facts.get(key) for key in keys):
                found.add(" ".join(facts[key] for key in keys))
    return tuple(sorted(found))


def distinct(machines: Iterable[Machine]) -> int:
    """How many machines these are at least: two that share a kind of core may be one, seen with other cores enabled.

    A machine whose cores are not known may be any of the others.
    """
    groups: list[set[str]] = []
    unknown = 0
    for machine in set(machines):
        if not machine.cores:
            unknown = 1
            continue
        touching = [group for group in groups if not group.isdisjoint(machine.cores)]
        groups = [group for group in groups if group.isdisjoint(machine.cores)]
        groups.append(set(machine.cores).union(*touching))
    return len(groups) or unknown
