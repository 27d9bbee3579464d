"""Semantic versions (https://semver.org, 2.0.0), and how large a step from one to another is."""

import re
from dataclasses import dataclass
from enum import IntEnum

_IDENTIFIER = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_NUMBER = r"(0|[1-9][0-9]*)"
_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
    rf"(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)


class Size(IntEnum):
    """How much a change means, and how large a step between versions is."""

    NONE = 0
    PATCH = 1
    MINOR = 2
    MAJOR = 3

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Version:
    """A version without its build metadata, which has no rank."""

    major: int
    minor: int
    patch: int
    pre: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}" + (f"-{'.'.join(self.pre)}" if self.pre else "")

    def __lt__(self, other: "Version") -> bool:
        return self._rank() < other._rank()

    def _rank(self) -> tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]:
        """In the order of precedence: a pre-release before its release, numbers before words."""
        parts = tuple((False, int(p), "") if p.isdigit() else (True, 0, p) for p in self.pre)
        return self.major, self.minor, self.patch, not self.pre, parts


def version(text: str) -> Version | None:
    """The version that a text states; None where it is no semantic version."""
    match = _VERSION.fullmatch(text) if len(text) <= 256 else None  # int() refuses endless digits with a traceback
    if match is None:
        return None
    return Version(int(match[1]), int(match[2]), int(match[3]), tuple(match[4].split(".")) if match[4] else ())


def step(old: Version, new: Version) -> Size:
    """How large a change the step from `old` to `new` announces. NONE if `new` is not later.

    In 0.y.z a minor step announces a major change. A pre-release binds nobody yet: what 2.0.0-rc.1 announces,
    2.0.0-rc.2 and 2.0.0 announce again.
    """
    if not old < new:
        return Size.NONE
    if new.major != old.major:
        size = Size.MAJOR
    elif new.minor != old.minor:
        size = _minor(old)
    else:
        size = Size.PATCH if new.patch != old.patch else Size.NONE
    return max(size, _announced(old)) if old.pre else size


def least(old: Version, size: Size) -> Version:
    """The first release after `old` that announces a change of this size; `old` itself for NONE."""
    if size is Size.NONE:
        return old
    if old.pre and _announced(old) >= size:
        return Version(old.major, old.minor, old.patch)
    if size is Size.PATCH:
        return Version(old.major, old.minor, old.patch + 1)
    if size <= _minor(old):
        return Version(old.major, old.minor + 1, 0)
    return Version(old.major + 1, 0, 0)


def _minor(old: Version) -> Size:
    return Size.MINOR if old.major else Size.MAJOR


def _announced(release: Version) -> Size:
    """What the step to a release, or to its pre-releases, announced."""
    if release.patch:
        return Size.PATCH
    return _minor(release) if release.minor else Size.MAJOR
