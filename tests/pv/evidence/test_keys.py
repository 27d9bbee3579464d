import builtins
import json
import os
import stat

import pytest

from pv.errors import PvError
from pv.evidence import keys
from pv.evidence.folder import read
from pv.evidence.keys import make_pair, public_key, public_keys, signer_of

SIGSTORE = {
    "keytype": "sigstore-oidc",
    "scheme": "Fulcio",
    "keyval": {"identity": "ci@example.org", "issuer": "https://example.org"},
}


def refusal(call, *arguments):
    """The error, which never holds what a file of a key holds."""
    with pytest.raises(PvError) as refused:
        call(*arguments)
    text = str(refused.value)
    assert "MC4C" not in text
    assert "-----BEGIN" not in text
    return text


def test_a_pair_is_written_for_its_owner_alone_and_signs(tmp_path):
    key = make_pair(tmp_path / "ci")
    assert stat.S_IMODE((tmp_path / "ci").stat().st_mode) == 0o600
    assert public_key(tmp_path / "ci.pub") == key
    signer = signer_of(str(tmp_path / "ci"), None)
    assert signer.public_key == key
    key.verify_signature(signer.sign(b"x"), b"x")


@pytest.mark.parametrize("there", ["ci", "ci.pub"])
def test_a_key_is_never_overwritten_and_no_half_of_a_pair_is_left(tmp_path, there):
    (tmp_path / there).write_text("precious")
    assert refusal(make_pair, tmp_path / "ci").startswith(
        f"{tmp_path / there}: is there already, and is never overwritten\n  hint: "
    )
    assert [file.read_text() for file in tmp_path.iterdir()] == ["precious"]


def test_a_pair_in_a_folder_that_is_not_there_is_an_error(tmp_path):
    assert refusal(make_pair, tmp_path / "no" / "ci").endswith("ci.pub: cannot be written: No such file or directory")


def test_a_key_of_an_identity_is_read_from_json_with_its_name_and_without(tmp_path):
    file = tmp_path / "ci.json"
    file.write_text(json.dumps(SIGSTORE))
    nameless = public_key(file)
    assert (len(nameless.keyid), nameless.keyval) == (64, SIGSTORE["keyval"])
    file.write_text(json.dumps({**SIGSTORE, "keyid": "release"}))
    assert public_key(file).keyid == "release"


def test_an_ed25519_key_as_json_has_the_name_that_it_has_as_pem(tmp_path):
    key = make_pair(tmp_path / "ci")
    (tmp_path / "ci.json").write_text(json.dumps(key.to_dict()))
    assert public_key(tmp_path / "ci.json").keyid == key.keyid


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no public key in PEM\n  hint: "),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "holds no public key in PEM\n"),
        ("{", "is no key that securesystemslib knows, as JSON\n"),
        ("{}", "is no key of securesystemslib: 'keyval' is missing\n"),
        ('{"keyval": 7}', "is no key that securesystemslib knows, as JSON\n"),
        ('{"keyval": {"public": "x"}, "keytype": "t"}', "is no key of securesystemslib: 'scheme' is missing\n"),
        ('{"keyval": {}, "keytype": "t", "scheme": "s"}', "is no key that securesystemslib knows, as JSON\n"),
        (json.dumps({**SIGSTORE, "keyid": 7}), "is no key that securesystemslib knows, as JSON\n"),
        (json.dumps({**SIGSTORE, "keyval": {"identity": "x"}}), "is no key that securesystemslib knows, as JSON\n"),
        ('{"keyval": {"public": "x", "private": "MC4C"}}', "holds a private key, and a public one belongs there\n"),
        ("x" * 70000, "holds no key: it is longer than 65536 bytes"),
    ],
)
def test_what_is_no_public_key_is_one_error(tmp_path, text, why):
    (tmp_path / "key").write_text(text)
    assert refusal(public_key, tmp_path / "key").startswith(f"{tmp_path / 'key'}: {why}")


def test_a_private_key_that_is_trusted_by_mistake_is_named_and_not_shown(tmp_path):
    make_pair(tmp_path / "ci")
    assert refusal(public_keys, [tmp_path / "ci"]).startswith(f"{tmp_path / 'ci'}: holds a private key, and a public ")


def test_a_missing_key_is_an_error(tmp_path):
    assert refusal(public_keys, [tmp_path / "ci.pub"]).endswith(
        "ci.pub: the key cannot be read: No such file or directory"
    )
    assert refusal(public_keys, [tmp_path]).endswith(": the key cannot be read: Is a directory")
    os.mkfifo(tmp_path / "pipe")
    for call, arguments in ((public_keys, ([tmp_path / "pipe"],)), (signer_of, (f"{tmp_path}/pipe", None))):
        assert refusal(call, *arguments).endswith("pipe: the key cannot be read: a named pipe may have no end")


def test_one_key_in_two_files_is_an_error(tmp_path):
    make_pair(tmp_path / "ci")
    (tmp_path / "copy.pub").write_bytes((tmp_path / "ci.pub").read_bytes())
    told = refusal(public_keys, [tmp_path / "ci.pub", tmp_path / "copy.pub"])
    assert told == f"{tmp_path / 'copy.pub'}: is the key of {tmp_path / 'ci.pub'} too\n  hint: name each key once"


def test_the_private_key_may_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("PV_SIGNING_KEY", raising=False)
    key = make_pair(tmp_path / "ci")
    assert refusal(signer_of, None, None).startswith("no key to sign with\n  hint: --key FILE, or the text of one in ")
    monkeypatch.setenv("PV_SIGNING_KEY", (tmp_path / "ci").read_text())
    assert signer_of(None, None).public_key == key
    monkeypatch.setenv("PV_SIGNING_KEY", "MC4C")
    assert refusal(signer_of, None, None).startswith("$PV_SIGNING_KEY: holds no private key in PEM that can sign\n")


def test_a_private_key_has_to_match_the_public_one_that_is_named(tmp_path):
    for name in ("ci", "other"):
        make_pair(tmp_path / name)
    signer_of(str(tmp_path / "ci"), tmp_path / "ci.pub")
    told = refusal(signer_of, str(tmp_path / "ci"), tmp_path / "other.pub")
    assert told == f"{tmp_path / 'ci'}: is not the private half of --public-key"
    (tmp_path / "id.json").write_text(json.dumps(SIGSTORE))
    told = refusal(signer_of, str(tmp_path / "ci"), tmp_path / "id.json")
    assert told.endswith("ci: a private key in PEM is no half of a key of kind sigstore-oidc")


def test_a_public_key_signs_nothing_and_an_encrypted_one_is_not_asked_for(tmp_path):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    make_pair(tmp_path / "ci")
    assert "ci.pub: holds no private key in PEM that can sign\n" in refusal(signer_of, str(tmp_path / "ci.pub"), None)
    locked = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    (tmp_path / "locked").write_bytes(locked)
    assert "locked: the private key is encrypted, and pv" in refusal(signer_of, str(tmp_path / "locked"), None)


def test_the_uri_of_a_signer_needs_its_public_half_and_says_why_it_cannot_be_used(tmp_path):
    make_pair(tmp_path / "ci")
    uri = f"file2:{tmp_path / 'ci'}"
    assert refusal(signer_of, uri, None) == f"{uri}: a signer by URI needs --public-key FILE, its public half"
    assert signer_of(uri, tmp_path / "ci.pub").public_key == public_key(tmp_path / "ci.pub")
    told = refusal(signer_of, "file2:/nowhere", tmp_path / "ci.pub")
    assert told.startswith("file2:/nowhere: the signer cannot be used: ")
    told = refusal(signer_of, "sigstore:", tmp_path / "ci.pub")
    assert told.startswith("sigstore:: the signer cannot be used: ")
    assert refusal(signer_of, "nonsense:x", None) == "nonsense:x: the key cannot be read: No such file or directory"


@pytest.mark.parametrize("missing", ["securesystemslib", "cryptography"])
def test_without_the_library_nothing_passes_for_signed(tmp_path, monkeypatch, missing):
    make_pair(tmp_path / "ci")
    real = builtins.__import__

    def importing(name, *rest):
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {missing!r}")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", importing)
    told = refusal(lambda: read(tmp_path / "evidence", trusted=[tmp_path / "ci.pub"]))
    assert told.startswith(f"signatures need a library that is not installed: No module named {missing!r}\n")
    assert "pip install 'pv-contracts[sign]'" in told
    assert read(tmp_path / "evidence").problems == ()


def test_the_uri_of_a_signer_never_hides_a_file_of_that_name(tmp_path, monkeypatch):
    key = make_pair(tmp_path / "sigstore:")
    monkeypatch.chdir(tmp_path)
    assert os.path.exists("sigstore:")
    assert signer_of("sigstore:", None).public_key == key
    assert keys.VARIABLE == "PV_SIGNING_KEY"
