"""What a trial came to so far, kept apart from the trial: a falsifier holds that in its hands, and this not.

Only pv changes an account, by what the trial's methods were told. No falsifier has a reason to import this module.
"""

import threading
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pv.canonical import Json

if TYPE_CHECKING:
    import numpy as np


@dataclass(slots=True, eq=False)
class Account:
    """The state of one trial.

    mutant     'module:function' of the planted defect, or None; a falsifier that knew it could be red for that alone
    artifacts  sizes of the outputs that are to be kept; keeping: the folder that they are put into, if any
    falsified  message of the first comparison that failed
    invalid    why the trial shows nothing, whatever its comparisons said
    thread     in which the falsifier is called; voices: those in which it compared
    measured   whether the falsifier asked for the limit of the contract's tolerance
    over       whether the falsifier has returned: what is said later is said to nobody
    """

    mutant: str | None = None
    comparisons: int = 0
    observations: dict[str, Json] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, int] = field(default_factory=dict)
    keeping: Path | None = None
    oracle_used: tuple[str, str] | None = None
    falsified: str | None = None
    invalid: str | None = None
    folder: Path | None = None
    rng: "np.random.Generator | None" = None
    thread: int = field(default_factory=threading.get_ident)
    voices: set[int] = field(default_factory=set)
    measured: bool = False
    over: bool = False

    def compared(self, message: str | None) -> None:
        """Count one comparison; `message` says what was seen where it failed."""
        self.comparisons += 1
        self.voices.add(threading.get_ident())
        self.falsified = self.falsified or message

    def spoil(self, why: str) -> None:
        """The first reason stands; no later comparison takes it back."""
        self.invalid = self.invalid or why


_accounts: "weakref.WeakKeyDictionary[Any, Account]" = weakref.WeakKeyDictionary()


def open_account(trial: Any, mutant: str | None, keeping: Path | None) -> None:
    _accounts[trial] = Account(mutant=mutant, keeping=keeping)


def account_of(trial: Any) -> Account:
    return _accounts[trial]
