"""What goes wrong between us and a hub, said in one line: huggingface_hub's errors, and those below it."""

from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import EngineError
from engine.pulled import HubName

ROOM = "make room, or set PV_MODELS to a folder of yours that has it"
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


class UnreachableError(EngineError):
    """The hub gave no answer: what is there already may still serve."""


@contextmanager
def asking(name: HubName, what: str = "") -> Iterator[None]:
    """Inside, whatever the library raises becomes an EngineError about the model.

    The library and what it builds on (HTTP, xet) have no common class of errors, and another one in each version.
    """
    try:
        yield
    except Exception as error:
        raise _explained(name, error, what) from None


def _explained(name: HubName, error: BaseException, what: str) -> EngineError:
    from huggingface_hub import constants, errors

    endpoint = constants.ENDPOINT
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # it only says that nothing of the kind is in the cache
    where = str(name)
    if isinstance(error, errors.GatedRepoError):
        return EngineError(
            f"is gated: its authors choose who may have it{what}",
            where=where,
            hint=f"accept its terms at {endpoint}/{name.repository}, then {_LOG_IN}",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return EngineError(
            f"{endpoint} has no such repository, or it is private",
            where=where,
            hint=f"check the name; for a private one, {_LOG_IN}",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return EngineError(
            f"the repository has no revision {name.revision!r}", where=where, hint="name a branch, a tag or a commit"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return EngineError(f"the hub lists the file, but does not have it{what}", where=where, hint="pull again")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return UnreachableError("nothing can be pulled offline", where=where, hint="unset HF_HUB_OFFLINE")
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(where, endpoint, error.response.status_code, what)
    transport = errors.HfHubHTTPError.__bases__[0]  # the root of the HTTP library's errors, whichever library it is
    if isinstance(error, transport):
        return UnreachableError(
            f"{endpoint} cannot be reached: {_line(error)}{what}",
            where=where,
            hint="check the network, a proxy, and HF_ENDPOINT",
        )
    if isinstance(error, OSError) and error.errno is not None:
        return EngineError(f"cannot be written: {error.strerror}", where=str(error.filename or where), hint=ROOM)
    return EngineError(f"could not be pulled: {_line(error)}{what}", where=where, hint="pull again")


def _refused(where: str, endpoint: str, status: int, what: str) -> EngineError:
    if status in (401, 403):
        return EngineError(
            f"{endpoint} denies access ({status}){what}", where=where, hint=f"check the token: {_LOG_IN}"
        )
    if status in (429, 500, 502, 503, 504):
        return UnreachableError(f"{endpoint} is busy or out of order ({status}){what}", where=where, hint="try later")
    return EngineError(f"{endpoint} answers with status {status}{what}", where=where, hint="check the name")


def _line(error: BaseException) -> str:
    """The first line of an error's text, or its class."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
