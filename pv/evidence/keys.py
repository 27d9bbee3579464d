"""Keys: public ones that are trusted, the private one that signs, and new pairs. No message holds a key.

A public key is a file of PEM, or of JSON as securesystemslib writes a key, with or without its name:

    {"keytype": "sigstore-oidc", "scheme": "Fulcio", "keyval": {"identity": "..", "issuer": ".."}, "keyid": ".."}

The private key is a file of PEM, the text of one in $PV_SIGNING_KEY, or the URI of a signer of securesystemslib.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pv.canonical import canonical, parse, sha256
from pv.errors import PvError

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer

VARIABLE = "PV_SIGNING_KEY"
INSTALL = "pip install 'pv-contracts[sign]'"
LONGEST = 1 << 16
"""Bytes of a file of a key; what is longer is none."""
PRIVATE = b"PRIVATE KEY-----"


def require_library() -> None:
    """PvError where the library that signs and verifies is not installed. Registers what it keeps optional."""
    try:
        import cryptography.hazmat.primitives.serialization  # noqa: F401  (without it the next one half works)
        from securesystemslib import signer
    except ImportError as error:
        what = f"signatures need a library that is not installed: {error}"
        raise PvError(what, hint=f"{INSTALL}; without it no signature is verified, and no level is told") from None
    key, name = signer.SigstoreKey, (signer.SigstoreKey.DEFAULT_KEY_TYPE, signer.SigstoreKey.DEFAULT_SCHEME)
    signer.KEY_FOR_TYPE_AND_SCHEME.setdefault(name, key)
    signer.SIGNER_FOR_URI_SCHEME.setdefault(signer.SigstoreSigner.SCHEME, signer.SigstoreSigner)


def public_keys(paths: Sequence[Path]) -> list["Key"]:
    """The keys of the files, in their order. PvError as `public_key`, and where two of them are one key."""
    keys: dict[str, tuple[Path, Key]] = {}
    for path in paths:
        key = public_key(path)
        if key.keyid in keys:
            raise PvError(f"is the key of {keys[key.keyid][0]} too", where=str(path), hint="name each key once")
        keys[key.keyid] = path, key
    return [key for _, key in keys.values()]


def public_key(path: Path) -> "Key":
    """The public key in a file. PvError for anything else."""
    require_library()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    data = _read(path)
    if PRIVATE in data:
        raise _leaked(path)
    if data.lstrip().startswith(b"{"):
        return _of_json(data, path)
    try:
        key: Key = SSlibKey.from_crypto(load_pem_public_key(data))
    except (ValueError, UnsupportedAlgorithm):
        hint = "`pv evidence keygen FILE` writes FILE.pub; a key as JSON of securesystemslib will do as well"
        raise PvError("holds no public key in PEM", where=str(path), hint=hint) from None
    return key


def _of_json(data: bytes, path: Path) -> "Key":
    from securesystemslib.signer import Key

    hint = '{"keytype": "sigstore-oidc", "scheme": "Fulcio", "keyval": {"identity": "..", "issuer": ".."}}'
    try:
        value: Any = parse(data)
        if value["keyval"].get("private"):
            raise _leaked(path)
        parts = {name: value[name] for name in ("keytype", "scheme", "keyval")}
        keyid = value.pop("keyid", sha256(canonical(parts)))
        if not isinstance(keyid, str) or not keyid:
            raise ValueError("keyid must be a text")
        key = Key.from_dict(keyid, value)
    except KeyError as error:
        raise PvError(f"is no key of securesystemslib: {error} is missing", where=str(path), hint=hint) from None
    except (ValueError, TypeError, AttributeError, RecursionError):  # whose message may show what the file holds
        raise PvError("is no key that securesystemslib knows, as JSON", where=str(path), hint=hint) from None
    return key


def _leaked(path: Path) -> PvError:
    hint = "name its public half, FILE.pub; if the file was ever committed or sent, make a new pair"
    return PvError("holds a private key, and a public one belongs there", where=str(path), hint=hint)


def _read(path: Path) -> bytes:
    try:
        if path.is_fifo() and not os.path.realpath(path).startswith("/proc/"):  # that of a shell: <(..)
            raise PvError("the key cannot be read: a named pipe may have no end", where=str(path))
        with path.open("rb") as stream:
            data = stream.read(LONGEST + 1)
    except OSError as error:
        raise PvError(f"the key cannot be read: {error.strerror}", where=str(path)) from None
    except ValueError as error:  # a NUL in the name
        raise PvError(f"the key cannot be read: {error}", where=repr(str(path))) from None
    if len(data) > LONGEST:
        raise PvError(f"holds no key: it is longer than {LONGEST} bytes", where=str(path))
    return data


def signer_of(chosen: str | None, public: Path | None) -> "Signer":
    """What signs with the private key: a file, the URI of a signer, or $PV_SIGNING_KEY where none is chosen.

    public  the file of its public half; a URI needs it, and a private key of PEM has to match it
    """
    require_library()
    from securesystemslib.signer import SIGNER_FOR_URI_SCHEME

    expected = public_key(public) if public else None
    if chosen is None:
        text = os.environ.get(VARIABLE)
        if not text:
            hint = f"--key FILE, or the text of one in {VARIABLE}; `pv evidence keygen FILE` makes a pair"
            raise PvError("no key to sign with", hint=hint)
        return _of_pem(text.encode("utf-8", "surrogateescape"), f"${VARIABLE}", expected)
    scheme, colon, _ = chosen.partition(":")
    if colon and scheme in SIGNER_FOR_URI_SCHEME and not Path(chosen).exists():
        return _of_uri(chosen, expected)
    return _of_pem(_read(Path(chosen)), chosen, expected)


def _of_pem(data: bytes, where: str, expected: "Key | None") -> "Signer":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.exceptions import Error
    from securesystemslib.signer import CryptoSigner, SSlibKey

    if expected is not None and not isinstance(expected, SSlibKey):
        raise PvError(f"a private key in PEM is no half of a key of kind {expected.keytype}", where=where)
    try:
        signer = CryptoSigner(load_pem_private_key(data, password=None))
        own = signer.public_key
        if expected is None:
            return signer
        if (own.keytype, own.keyval) == (expected.keytype, expected.keyval):
            return CryptoSigner(load_pem_private_key(data, password=None), expected)
    except TypeError:
        hint = f"keep it unencrypted where only you can read it, or in {VARIABLE}"
        raise PvError("the private key is encrypted, and pv asks for no passphrase", where=where, hint=hint) from None
    except (ValueError, UnsupportedAlgorithm, Error):
        hint = "`pv evidence keygen FILE` writes one; FILE.pub is the public half, which signs nothing"
        raise PvError("holds no private key in PEM that can sign", where=where, hint=hint) from None
    raise PvError("is not the private half of --public-key", where=where)


def _of_uri(uri: str, expected: "Key | None") -> "Signer":
    from securesystemslib.signer import Signer

    if expected is None:
        raise PvError("a signer by URI needs --public-key FILE, its public half", where=uri)
    try:
        return Signer.from_priv_key_uri(uri, expected)
    except Exception as error:  # whatever a signer of another library may raise: it says so itself
        raise PvError(f"the signer cannot be used: {' '.join(str(error).split())[:300]}", where=uri) from None


def make_pair(path: Path) -> "Key":
    """Write a new ed25519 pair: the private key to `path`, for its owner alone, the public one to `path`.pub.

    PvError where either is there already, or cannot be written; then neither is.
    """
    require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
    from securesystemslib.signer import SSlibKey

    private = Ed25519PrivateKey.generate()
    secret = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    open_to_all = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    public = path.with_name(path.name + ".pub")
    written: list[Path] = []
    for file, data, mode in ((public, open_to_all, 0o644), (path, secret, 0o600)):
        try:
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            written.append(file)
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
        except OSError as error:
            for one in written:
                one.unlink(missing_ok=True)
            there = isinstance(error, FileExistsError)
            hint = "a key that signed something is still needed: choose another name" if there else ""
            why = "is there already, and is never overwritten" if there else f"cannot be written: {error.strerror}"
            raise PvError(why, where=str(file), hint=hint) from None
    return SSlibKey.from_crypto(private.public_key())
