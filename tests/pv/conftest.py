"""Fixtures of the tests of pv."""

from tests.pv.stranger import stranger
from tests.pv.trying import project, registry, try_

__all__ = ["project", "registry", "stranger", "try_"]
