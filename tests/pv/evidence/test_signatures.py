import base64
import json
from dataclasses import replace

import pytest
from google.protobuf import json_format
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as Message
from securesystemslib import signer as signers
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError

from pv.binding import bind
from pv.errors import PvError
from pv.evidence.folder import read
from pv.evidence.keys import make_pair, public_key, signer_of
from pv.evidence.recording import keep
from pv.evidence.signatures import signature_name, signed_of
from pv.evidence.signing import sign
from pv.outcome import Outcome
from pv.project import Project
from pv.status import exit_code, survey
from pv.status_report import as_text
from pv.words import Level
from tests.pv.evidence.test_folder import BASE
from tests.pv.test_binding import FILES, project, recorded

KEYS = FILES["pyproject.toml"] + 'trusted-keys = ["ci.pub", "old.pub"]\n'


def proven(folder, **how):
    """A project that trusts two keys, with everything recorded in one run that nobody signed."""
    for name in ("ci", "old", "stranger"):
        make_pair(folder / name)
    config, contract = project(folder, **{"pyproject.toml": KEYS})
    recorded(bind(contract, contract.tests[0], config), config, **how)
    return config


def signature(config, key="ci", run=0):
    """Sign a run, and return the file of the signature."""
    found = read(config.evidence)
    return sign(found, list(found.chain.runs)[run], signer_of(str(config.root / key), None))


def level(config):
    return survey(config).rows[0].earned.level


def problems(config):
    return [problem.why for problem in survey(config).problems]


@pytest.mark.parametrize("key", ["ci", "old"])
def test_a_run_that_a_trusted_key_signed_supports_a_level(tmp_path, key):
    config = proven(tmp_path)
    signature(config, key)
    found = survey(config)
    assert found.rows[0].earned.level is Level.DISCHARGED
    assert (found.problems, found.evidence.notes) == ((), ())
    assert exit_code(found, check=True) == 0


def test_an_unsigned_run_supports_no_level_and_a_note_says_so(tmp_path):
    config = proven(tmp_path)
    found = survey(config)
    (run,) = found.evidence.chain.runs
    time = found.evidence.chain.runs[run].time
    assert found.rows[0].earned.level is Level.UNTESTED
    assert (
        f"note: 1 of 1 runs are not signed by a trusted key and support nothing, the first is {run[:12]}.. of {time}: "
        "`pv evidence sign` signs what you vouch for"
    ) in as_text(found).splitlines()
    assert exit_code(found, check=True) == 1


def test_without_trusted_keys_any_run_supports_a_level(tmp_path):
    config = replace(proven(tmp_path), trusted_keys=())
    signature(config, "stranger")
    assert level(config) is Level.DISCHARGED
    assert survey(config).evidence.notes == ()


def test_a_run_that_another_key_signed_supports_no_level_and_a_note_says_so(tmp_path):
    config = proven(tmp_path)
    path = signature(config, "stranger")
    assert level(config) is Level.UNTESTED
    assert survey(config).evidence.notes[1] == (
        f"1 signatures are by keys that are not trusted, the first is _signatures/{path.name}"
    )
    assert problems(config) == []


def test_only_the_runs_that_are_signed_are_believed(tmp_path):
    config = proven(tmp_path, only=lambda plan: plan.role == "algorithm")
    signature(config)
    recorded(survey(config).rows[0].binding, config, only=lambda plan: plan.role != "algorithm")
    assert level(config) is Level.PARTIAL
    assert "1 of 2 runs are not signed" in as_text(survey(config))
    signature(config, run=1)
    assert level(config) is Level.DISCHARGED


def test_what_speaks_against_a_test_counts_though_nobody_signed_it(tmp_path):
    config = proven(tmp_path)
    signature(config)
    only = {"only": lambda plan: plan.suffix == "algorithm", "outcome": Outcome.FALSIFIED, "message": "seen"}
    recorded(survey(config).rows[0].binding, config, **only)
    assert level(config) is Level.FALSIFIED


def forged(path, keyid):
    """Say that another key has signed what a key signed."""
    value = json.loads(path.read_bytes())
    run = path.name[:64]
    value["signatures"][0]["keyid"] = keyid
    other = path.with_name(signature_name(run, keyid))
    path.unlink()
    other.write_text(json.dumps(value))


def test_a_signature_that_names_a_trusted_key_and_is_not_its_own_is_a_problem_and_supports_nothing(tmp_path):
    config = proven(tmp_path)
    key = public_key(config.trusted_keys[0])
    forged(signature(config, "stranger"), key.keyid)
    assert level(config) is Level.UNTESTED
    assert problems(config) == [f"its signature by the trusted key {key.keyid[:16]} is not valid"]


@pytest.mark.parametrize("trusted", [True, False])
def test_a_signature_of_another_run_is_a_problem_with_trusted_keys_and_without(tmp_path, trusted):
    config = proven(tmp_path)
    config = config if trusted else replace(config, trusted_keys=())
    path = signature(config)
    keep(config.evidence, [BASE])
    first, second = read(config.evidence).chain.runs
    copied = path.with_name(path.name.replace(first, second))
    copied.write_bytes(path.read_bytes())
    assert problems(config) == [f"signs other bytes than those of run {second[:12]}.."]
    assert read(config.evidence, trusted=config.trusted_keys).believed == ({first} if trusted else {first, second})


def test_a_signature_of_a_run_that_is_not_there_is_a_problem(tmp_path):
    config = proven(tmp_path)
    path = signature(config)
    (config.evidence / "_runs" / f"{path.name[:64]}.json").unlink()
    assert problems(config)[-1] == "signs a run that is not there, or cannot be read"


def changed(**parts):
    return lambda value, path: path.write_text(json.dumps({**value, **parts}))


def edited_payload(value, path):
    payload = base64.b64decode(value["payload"]).replace(b"PASSED", b"FAILED")
    path.write_text(json.dumps({**value, "payload": base64.b64encode(payload).decode()}))


def signed_twice(value, path):
    path.write_text(json.dumps({**value, "signatures": value["signatures"] * 2}))


NONE = "is no DSSE envelope with a signature"
WRONG = [
    (edited_payload, "signs other bytes than those of run "),
    (changed(payload="%%%"), NONE),
    (changed(payload="é"), NONE),
    (changed(payload=7), NONE),
    (changed(signatures=[]), NONE),
    (changed(signatures={}), NONE),
    (changed(signatures=[{"sig": "AAAA"}]), NONE),
    (changed(signatures=[{"keyid": 7, "sig": "AAAA"}]), NONE),
    (changed(signatures=[{"keyid": "k", "sig": ""}]), NONE),
    (changed(signatures=["x"]), NONE),
    (changed(more=1), NONE),
    (signed_twice, NONE),
    (changed(signatures=[{"keyid": "k", "sig": "AAAA"}]), "is named after a key that did not sign"),
    (changed(payloadType="text/plain"), "is an envelope around something that is not application/vnd.in-toto+json"),
    (lambda _, path: path.write_bytes(b"[" * 100_000), NONE),
    (lambda _, path: path.write_bytes(b"\xff"), NONE),
    (lambda _, path: path.write_text("[]"), NONE),
    (lambda _, path: path.write_text("null"), NONE),
    (
        lambda _, path: path.rename(path.with_name("x.json")),
        "is no signature: signatures are _signatures/<digest",
    ),
    (lambda _, path: path.rename(path.with_name(path.name[:65] + "0" * 16 + ".json")), "is named after a key that did"),
]


@pytest.mark.parametrize(("damage", "why"), WRONG)
@pytest.mark.parametrize("trusted", [True, False])
def test_a_damaged_signature_is_one_problem_with_trusted_keys_and_without(tmp_path, damage, why, trusted):
    config = proven(tmp_path)
    config = config if trusted else replace(config, trusted_keys=())
    path = signature(config)
    damage(json.loads(path.read_bytes()), path)
    (found,) = problems(config)
    assert found.startswith(why)
    assert level(config) is (Level.UNTESTED if trusted else Level.DISCHARGED)


def test_a_folder_among_the_signatures_and_a_link_are_problems(tmp_path):
    config = proven(tmp_path)
    path = signature(config)
    (path.parent / "deeper").mkdir()
    (path.parent / "deeper" / path.name).write_bytes(path.read_bytes())
    path.with_name("link.json").symlink_to(path)
    assert [why.partition(":")[0] for why in problems(config)] == ["is no statement", "is a symbolic link"]


def with_a_second(config, second):
    """An envelope with a signature by the trusted key, and before it another."""
    path = signature(config)
    value = json.loads(path.read_bytes())
    value["signatures"].insert(0, second)
    path.write_text(json.dumps(value))
    return path


def test_of_two_signatures_in_an_envelope_one_valid_one_suffices(tmp_path):
    config = proven(tmp_path)
    with_a_second(config, {"keyid": "somebody", "sig": "AAAA"})
    assert level(config) is Level.DISCHARGED
    assert problems(config) == []


@pytest.mark.parametrize("sig", ["AAAA", base64.b64encode(bytes(64)).decode()])
def test_an_invalid_signature_by_a_trusted_key_spoils_no_valid_one_and_is_a_problem(tmp_path, sig):
    config = proven(tmp_path)
    old = public_key(config.trusted_keys[1])
    with_a_second(config, {"keyid": old.keyid, "sig": sig})
    assert level(config) is Level.DISCHARGED
    assert problems(config) == [f"its signature by the trusted key {old.keyid[:16]} is not valid"]


def test_securesystemslib_reads_and_verifies_our_envelope(tmp_path):
    config = proven(tmp_path)
    path = signature(config)
    envelope = Envelope.from_dict(json.loads(path.read_bytes()))
    ci, old = map(public_key, config.trusted_keys)
    assert envelope.verify([ci, old], 1) == {ci.keyid: ci}
    assert envelope.payload == (config.evidence / "_runs" / f"{path.name[:64]}.json").read_bytes()
    with pytest.raises(VerificationError):
        envelope.verify([old], 1)


def test_in_toto_reads_our_statements_of_records_and_of_runs(tmp_path):
    config = proven(tmp_path)
    files = sorted(config.evidence.rglob("*.json"))
    assert {file.parent.name for file in files} == {"_runs", "T-1"}
    for file in files:
        statement = Statement.copy_from_pb(json_format.Parse(file.read_bytes(), Message()))
        statement.validate()
        assert statement.pb.predicate_type == "https://in-toto.io/attestation/test-result/v0.1"
        assert statement.pb.predicate["result"] == "PASSED"


class KeylessKey(signers.Key):
    """Stands for a key that is an identity: verifying asks somebody else, who may not answer."""

    answers = True

    @classmethod
    def from_dict(cls, keyid, key_dict):
        return cls(keyid, *cls._from_dict(key_dict))

    def to_dict(self):
        return self._to_dict()

    def verify_signature(self, signature, data):
        if not self.answers:
            raise VerificationError("Unknown failure") from ConnectionError("nobody answers")
        if signature.unrecognized_fields["bundle"] != {"identity": self.keyval["identity"], "bytes": len(data)}:
            raise UnverifiedSignatureError("another one")


class KeylessSigner(signers.Signer):
    def __init__(self, key):
        self._key = key

    @property
    def public_key(self):
        return self._key

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri, public_key, secrets_handler=None):
        assert priv_key_uri == "keyless:?ambient=true"
        return cls(public_key)

    def sign(self, payload):
        bundle = {"identity": self._key.keyval["identity"], "bytes": len(payload)}
        return signers.Signature(self._key.keyid, "00", {"bundle": bundle})


@pytest.fixture
def keyless(monkeypatch):
    monkeypatch.setitem(signers.SIGNER_FOR_URI_SCHEME, "keyless", KeylessSigner)
    monkeypatch.setitem(signers.KEY_FOR_TYPE_AND_SCHEME, ("keyless-oidc", "Fake"), KeylessKey)
    return '{"keytype": "keyless-oidc", "scheme": "Fake", "keyval": {"identity": "ci@example.org"}}'


def test_a_keyless_signer_signs_and_its_identity_is_trusted(tmp_path, keyless, monkeypatch):
    config = proven(tmp_path)
    config.trusted_keys[0].write_text(keyless)
    found = read(config.evidence)
    (run,) = found.chain.runs
    assert sign(found, run, signer_of("keyless:?ambient=true", config.trusted_keys[0]))
    assert level(config) is Level.DISCHARGED
    monkeypatch.setattr(KeylessKey, "answers", False)
    assert level(config) is Level.UNTESTED
    assert problems(config)[0].endswith(" cannot be verified here: nobody answers")
    monkeypatch.setattr(KeylessKey, "answers", True)
    config.trusted_keys[0].write_text(keyless.replace("ci@", "no@"))
    assert level(config) is Level.UNTESTED


def test_the_name_of_a_key_that_is_no_digest_is_shortened_to_one():
    assert signature_name("ab" * 32, "cd" * 32) == f"{'ab' * 32}.{'cd' * 8}.json"
    assert signature_name("ab" * 32, "ci@example.org/../x") == f"{'ab' * 32}.f9f01687448df008.json"


def test_an_envelope_says_which_run_it_is_about_and_who_signed(tmp_path):
    path = signature(proven(tmp_path))
    signed = signed_of(path.read_bytes(), path.name)
    assert (signed.run, signed.keyids) == (path.name[:64], (public_key(tmp_path / "ci.pub").keyid,))
    with pytest.raises(PvError, match=r"^is no signature"):
        signed_of(path.read_bytes(), "x")


def test_the_rules_about_levels_believe_what_is_signed_too(tmp_path):
    config = proven(tmp_path)
    _, contract = project(tmp_path, **{"pyproject.toml": KEYS})
    assert Project(config).rows(contract)[0].earned.level is Level.UNTESTED
    signature(config)
    assert Project(config).rows(contract)[0].earned.level is Level.DISCHARGED
