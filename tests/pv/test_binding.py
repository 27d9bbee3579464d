import hashlib

import pytest

from pv.binding import Planned, bind, claim_digest, seed_of
from pv.config import find
from pv.contract import read_contract
from pv.errors import PvError
from pv.evidence.recording import keep
from pv.outcome import Outcome
from pv.statement import OracleSubject, Record, environment

TINY = hashlib.sha256(b"tiny").hexdigest()
SMOL = hashlib.sha256(b"smol").hexdigest()

CONTRACT = """\
metadata:
  version: "1.2.3"
  description: what a checksum promises
equations:
  sum:
    formula: s = sum(x)
  other:
    formula: t = 1
proof_obligations:
- id: OBL-1
  property: order
- id: OBL-2
  property: size
falsification_tests:
- id: T-1
  rule: the order does not matter
  prediction: equal sums
  if_fails: the sum is wrong
  binds_to: sum
  obligations: [OBL-1]
  falsifiers:
    algorithm: checks.sums:order
    live: checks.sums:files
    oracle: checks.sums:same_as_zlib
  mutants: [off_by_one, forgets_last]
  models: [tiny, smol]
  status: PARTIAL
- id: T-2
  rule: somebody looks at it
  test: cargo test
  status: verified
"""

FILES = {
    "pyproject.toml": '[tool.pv]\nfirst-party = ["checks", "sums"]\nmodels = "models.yaml"\n',
    "models.yaml": "".join(
        f"{name}: {{about: a test, licence: CC0-1.0, sha256: {sha256}, size: 4, file: {name}.gguf}}\n"
        for name, sha256 in (("tiny", TINY), ("smol", SMOL))
    ),
    "checks/__init__.py": "",
    "checks/sums.py": "import sums\n",
    "sums.py": "def total(x): return sum(x)\n",
    "contracts/checksum-v1.yaml": CONTRACT,
}


def project(folder, **changed):
    """A small project of its own in the folder: its configuration and its contract."""
    for name, text in {**FILES, **changed}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return find(folder), read_contract(folder / "contracts" / "checksum-v1.yaml")


def recorded(binding, config, *, only=lambda plan: True, **changed):
    """Keep a run with a supporting record of each planned trial, and return the records."""
    records = []
    for plan in binding.planned:
        if not only(plan):
            continue
        values = {
            "contract": binding.contract,
            "test": binding.test,
            "role": plan.role,
            "falsifier": plan.falsifier,
            "mutant": plan.mutant,
            "model": binding.models[plan.model] if plan.model else None,
            "oracle": OracleSubject(name="zlib", version="1.3") if plan.role == "oracle" else None,
            "outcome": Outcome.FALSIFIED if plan.mutant else Outcome.SURVIVED,
            "seed": seed_of(binding.contract, binding.test, plan.role, plan.model),
            "comparisons": 2,
            "claim": binding.claim,
            "code": binding.code[plan.falsifier],
            "environment": environment(),
        }
        records.append(Record(**{**values, **changed}))
    keep(config.evidence, records)
    return records


def test_trials_are_planned_role_by_role_models_before_mutants(tmp_path):
    config, contract = project(tmp_path)
    binding = bind(contract, contract.tests[0], config)
    assert (binding.contract, binding.test) == ("checksum-v1", "T-1")
    assert [plan.suffix for plan in binding.planned] == [
        "algorithm",
        "algorithm!off_by_one",
        "algorithm!forgets_last",
        "live-tiny",
        "live-smol",
        "live-tiny!off_by_one",
        "live-tiny!forgets_last",
        "oracle-tiny",
        "oracle-smol",
        "oracle-tiny!off_by_one",
        "oracle-tiny!forgets_last",
    ]
    assert binding.planned[5] == Planned(role="live", falsifier="checks.sums:files", model="tiny", mutant="off_by_one")
    assert {name: model.sha256 for name, model in binding.models.items()} == {"tiny": TINY, "smol": SMOL}
    assert set(binding.code) == {"checks.sums:order", "checks.sums:files", "checks.sums:same_as_zlib"}
    assert (set(binding.variables.values()), binding.document) == ({()}, None)


def test_the_variables_of_the_whole_closure_and_the_document_that_a_claim_covers_are_bound(tmp_path):
    text = "import checks.more\nPV_ENVIRONMENT = 'B', 'A'\n" + FILES["checks/sums.py"]
    more = {"checks/sums.py": text, "checks/more.py": "PV_ENVIRONMENT = ['C', 'A']\n"}
    covering = FILES["contracts/checksum-v1.yaml"].replace("  falsifiers:\n", "  covers: document\n  falsifiers:\n", 1)
    config, contract = project(tmp_path, **more, **{"contracts/checksum-v1.yaml": covering})
    binding = bind(contract, contract.tests[0], config)
    assert set(binding.variables.values()) == {("A", "B", "C")}
    assert binding.document == tmp_path / "contracts" / "checksum-v1.yaml"


def test_the_order_of_roles_in_the_yaml_does_not_matter_to_the_plan(tmp_path):
    config, contract = project(tmp_path)
    swapped = CONTRACT.replace("    algorithm: checks.sums:order\n", "").replace(
        "  mutants:", "    algorithm: checks.sums:order\n  mutants:"
    )
    assert swapped != CONTRACT
    before = bind(contract, contract.tests[0], config).planned
    config, contract = project(tmp_path, **{"contracts/checksum-v1.yaml": swapped})
    assert bind(contract, contract.tests[0], config).planned == before


def test_a_test_without_falsifiers_is_unbound(tmp_path):
    config, contract = project(tmp_path)
    assert bind(contract, contract.tests[1], config) is None


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("  status: PARTIAL\n", "  status: DISCHARGED\n", False),
        ("  status: PARTIAL\n", "", False),
        ('version: "1.2.3"', 'version: "2.0.0"', False),
        ("  rule: the order does not matter", "  rule:   'the order does not matter'  # comment", False),
        ("formula: t = 1", "formula: t = 2", False),
        ("property: size", "property: weight", False),
        ("rule: somebody looks", "rule: nobody looks", False),
        ("prediction: equal sums", "prediction: nearly equal sums", True),
        ("formula: s = sum(x)", "formula: s = max(x)", True),
        ("property: order", "property: any order", True),
        ("mutants: [off_by_one, forgets_last]", "mutants: [off_by_one]", True),
        ("models: [tiny, smol]", "models: [tiny]", True),
        ("checks.sums:files", "checks.sums:others", True),
        ("  if_fails: the sum is wrong\n", "  if_fails: the sum is wrong\n  tolerance: {limit: 1e-5}\n", True),
    ],
)
def test_the_claim_changes_with_the_promise_and_not_with_its_status(tmp_path, old, new, changes):
    assert old in CONTRACT
    _, contract = project(tmp_path)
    before = claim_digest(contract, contract.tests[0])
    _, contract = project(tmp_path, **{"contracts/checksum-v1.yaml": CONTRACT.replace(old, new)})
    assert (claim_digest(contract, contract.tests[0]) != before) is changes


def test_the_name_of_the_contract_belongs_to_the_claim(tmp_path):
    _, contract = project(tmp_path)
    (tmp_path / "contracts" / "other.yaml").write_text(CONTRACT)
    other = read_contract(tmp_path / "contracts" / "other.yaml")
    assert claim_digest(other, other.tests[0]) != claim_digest(contract, contract.tests[0])


def test_code_and_models_have_the_digests_of_today(tmp_path):
    config, contract = project(tmp_path)
    before = bind(contract, contract.tests[0], config)
    config, contract = project(tmp_path, **{"sums.py": "def total(x): return 0\n"})
    after = bind(contract, contract.tests[0], config)
    assert after.claim == before.claim
    assert all(after.code[name] != before.code[name] for name in before.code)
    config, contract = project(tmp_path, **{"models.yaml": FILES["models.yaml"].replace(TINY, "ee" * 32)})
    assert bind(contract, contract.tests[0], config).models["tiny"].sha256 == "ee" * 32


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("checks.sums:order", "checks.sums", r":15: T-1: algorithm: 'checks\.sums' is no 'module:function'$"),
        ("    live:", "    lively:", r":15: T-1: no role 'lively'\n  hint: roles: algorithm, live, oracle$"),
        ("checks.sums:files", "checks.sum:files", r":15: no module 'checks\.sum' below .*\n  hint: did you mean"),
        ("checks.sums:files", "numpy.linalg:files", r":15: 'numpy\.linalg' is no first-party module"),
        ("[tiny, smol]", "[tinny]", r":15: no model 'tinny' in the registry\n  hint: did you mean 'tiny'\?$"),
        ("[tiny, smol]", "[tiny, tiny]", r":15: T-1: model 'tiny' stands twice$"),
        ("[off_by_one, forgets_last]", "[a, b, a]", r":15: T-1: mutant 'a' stands twice$"),
        ("  models: [tiny, smol]\n", "", r":15: T-1: live needs models to run on\n  hint: name one: models: \[\.\.\]$"),
        (
            "  status: PARTIAL\n",
            "  covers: everything\n",
            r":15: T-1: cannot cover 'everything'\n  hint: known: document;",
        ),
        (
            "  status: PARTIAL\n",
            "  covers: [document]\n",
            r":15: T-1: cannot cover \['document'\]\n  hint: known: docu",
        ),
        ("formula: s = sum(x)", "n: 36893488147419103232", r":15: 36893488147419103232 is not exact as a JSON number"),
    ],
)
def test_what_cannot_be_bound_is_an_error_with_its_line(tmp_path, old, new, message):
    assert old in CONTRACT
    config, contract = project(tmp_path, **{"contracts/checksum-v1.yaml": CONTRACT.replace(old, new)})
    with pytest.raises(PvError, match=rf"checksum-v1\.yaml{message}"):
        bind(contract, contract.tests[0], config)


COVERING = CONTRACT.replace(
    "  rule: the order does not matter\n", "  rule: the order does not matter\n  covers: document\n"
)


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("  status: PARTIAL\n", "  status: DISCHARGED\n", False),
        ("  status: PARTIAL\n", "", False),
        ("  status: verified\n", "  status: UNTESTED\n", False),
        ('version: "1.2.3"', 'version: "2.0.0"', False),
        ("falsification_tests:\n", "verification_summary: {bound: 1}\nfalsification_tests:\n", False),
        ("metadata:\n", "# a comment\nmetadata:\n", False),
        ("rule: somebody looks", "rule: nobody looks", True),
        ("test: cargo test", "test: cargo bench", True),
        ("formula: t = 1", "formula: t = 2", True),
        ("property: size", "property: weight", True),
        ("what a checksum promises", "what it promises", True),
        ("falsification_tests:\n", "note: 1\nfalsification_tests:\n", True),
        ("  covers: document\n", "", True),
        ("prediction: equal sums", "prediction: nearly equal sums", True),
    ],
)
def test_a_claim_about_the_document_changes_with_all_of_it_but_for_what_promotion_writes(tmp_path, old, new, changes):
    assert old in COVERING
    _, contract = project(tmp_path, **{"contracts/checksum-v1.yaml": COVERING})
    before = claim_digest(contract, contract.tests[0])
    _, contract = project(tmp_path, **{"contracts/checksum-v1.yaml": COVERING.replace(old, new)})
    assert (claim_digest(contract, contract.tests[0]) != before) is changes


def test_a_claim_about_more_than_its_test_leaves_the_claims_of_others_alone(tmp_path):
    _, contract = project(tmp_path)
    before = claim_digest(contract, contract.tests[1])
    _, contract = project(tmp_path, **{"contracts/checksum-v1.yaml": COVERING})
    assert claim_digest(contract, contract.tests[1]) == before


def test_the_seed_follows_from_the_names():
    assert seed_of("c", "t", "algorithm", None) == 4208550426
    seeds = {seed_of("c", "t", "live", "tiny"), seed_of("c", "u", "live", "tiny"), seed_of("c", "t", "live", "smol")}
    assert len(seeds) == 3
