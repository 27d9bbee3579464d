"""The vocabulary of contracts: every key that is known, what its value must be, and its other spellings.

It is that of public contracts of this kind, both generations of them, and ours beside it. Keys that are not listed are
allowed everywhere; PV-KEY-001 and PV-KEY-002 report them.
"""

from collections.abc import Mapping

from pv.sections import (
    BEAT,
    COQ_SPEC,
    ENFORCEMENT,
    INTAKE,
    KAIZEN,
    KANI_HARNESSES,
    KERNEL_STRUCTURE,
    PARITY,
    QA_GATE,
    STORIES,
    TYPE_INVARIANTS,
)
from pv.shapes import ANYTHING, FLAG, INTEGER, NUMBER, TEXT, Choice, Key, ListOf, MapOf, Named, Record
from pv.words import Level

KINDS = (
    "kernel",
    "registry",
    "model-family",
    "model-family-variant",
    "tokenizer",
    "training-loop",
    "pretraining-corpus",
    "training-precondition-gate",
    "corpus-assembly",
    "pattern",
    "schema",
    "beat-benchmark",
    "competitive-parity",
    "kaizen",
)
OBLIGATION_TYPES = (
    "invariant",
    "equivalence",
    "bound",
    "monotonicity",
    "idempotency",
    "linearity",
    "symmetry",
    "associativity",
    "conservation",
    "ordering",
    "completeness",
    "soundness",
    "involution",
    "determinism",
    "roundtrip",
    "state_machine",
    "classification",
    "independence",
    "termination",
    "safety",
    "liveness",
    "precondition",
    "postcondition",
    "frame",
    "loop_invariant",
    "loop_variant",
    "old_state",
    "subcontract",
)

TEXTS = ListOf(TEXT)

METADATA = Record(
    {
        "version": Key(TEXT, "the contract's version, major.minor.patch", asked="SCHEMA-002"),
        "description": Key(TEXT, "what the contract is about", required=True),
        "created": Key(TEXT, "day of its first version, YYYY-MM-DD"),
        "author": Key(TEXT, "who wrote it"),
        "references": Key(TEXTS, "sources: papers, specifications, file formats", asked="SCHEMA-001"),
        "depends_on": Key(TEXTS, "names of the contracts that it builds on"),
        "registry": Key(FLAG, "an old way to write kind: registry"),
        "kind": Key(Choice(KINDS), "what sort of contract it is; kernel if not given"),
        "status": Key(ANYTHING, "the document's life: PROPOSED, ACTIVE or RETIRED"),
        "enforcement_level": Key(Choice(("basic", "standard", "strict", "proven")), "how much is asked of it"),
        "locked_level": Key(TEXT, "the level that it must not fall below"),
        "competitor": Key(TEXT, "whose tool the story was seen in"),
        "demand_score": Key(INTEGER, "how much it is asked for, 1 to 5"),
        "intake_status": Key(Choice(INTAKE), "how far the story is supported here"),
        "proved_type": Key(ANYTHING, "the type whose code the obligations are about"),
    },
    free={"changelog": "", "updated": "", "peer_contracts": "", "lessons_learned": ""},
)
SHAPE_CONTRACT = Record(
    {
        "shapes": Key(
            MapOf(
                Record(
                    {
                        "dims": Key(ListOf(TEXT, ordered=True), "the dimensions, names or expressions", required=True),
                        "dtype": Key(TEXT, "the element type"),
                    }
                )
            ),
            "tensors by name",
        ),
        "constraints": Key(TEXTS, "what must hold between dimensions"),
        "from_contract": Key(TEXT, "the contract that provides the shapes"),
        "from_equation": Key(TEXT, "the equation that provides the shapes"),
    }
)
EQUATION = Record(
    {
        "id": Key(TEXT, "the equation's name, where equations are a list"),
        "formula": Key(TEXT, "what holds, as a formula", asked="SCHEMA-004"),
        "domain": Key(TEXT, "for which inputs", asked="PV-AUD-004"),
        "codomain": Key(TEXT, "what the outputs are"),
        "invariants": Key(TEXTS, "what follows from the formula"),
        "preconditions": Key(TEXTS, "expressions that hold before the call"),
        "postconditions": Key(TEXTS, "expressions that hold after it"),
        "lean_theorem": Key(TEXT, "the theorem in Lean that proves it"),
        "float_tolerance": Key(NUMBER, "by how much floating point may differ"),
        "assumes": Key(SHAPE_CONTRACT, "shapes that it takes from another equation"),
        "guarantees": Key(SHAPE_CONTRACT, "shapes that it gives to others"),
    }
)
LEAN = Record(
    {
        "theorem": Key(TEXT, "the theorem's name", required=True, asked="PV-REQ-001"),
        "module": Key(TEXT, "the module that it stands in"),
        "status": Key(Choice(("proved", "sorry", "wip", "not-applicable")), "how far the proof is; sorry if not given"),
        "depends_on": Key(TEXTS, "theorems that it uses"),
        "mathlib_imports": Key(TEXTS, "modules of Mathlib that it imports"),
        "notes": Key(TEXT, "what else there is to say"),
    }
)
OBLIGATION = Record(
    {
        "id": Key(TEXT, "by which tests name it", asked="PV-LINK-003"),
        "type": Key(
            Choice(OBLIGATION_TYPES), "what sort of property it is; invariant if not given", asked="PV-REQ-001"
        ),
        "property": Key(TEXT, "what must hold, in words", also=("statement",), asked="SCHEMA-005"),
        "formal": Key(TEXT, "the same, formally", also=("verification",)),
        "tolerance": Key(NUMBER, "by how much a result may differ"),
        "applies_to": Key(TEXT, "what it is asked of: all, scalar, simd, converter, an algorithm, or not_applicable"),
        "na_reason": Key(TEXT, "why it is not applicable"),
        "na_owner": Key(TEXT, "who decided that it is not applicable"),
        "lean": Key(LEAN, "its proof in Lean"),
        "requires": Key(TEXT, "of a postcondition: the obligation that is its precondition"),
        "applies_to_phase": Key(TEXT, "of a loop_invariant or loop_variant: the phase of kernel_structure"),
        "parent_contract": Key(TEXT, "of a subcontract: the contract that it refines"),
    }
)
COVERS = ("document",)
"""What a promise may be about beside the equation and the obligations that its test names."""

FLOOR = Record(
    {
        "file": Key(TEXT, "the file that `apr floor --output` wrote, from the project's folder", required=True),
        "stage": Key(TEXT, "the stage whose floor it is, or any: the largest of all", required=True),
        "arithmetic": Key(TEXT, "the arithmetic whose errors are honest: float32, float16 or int8", required=True),
        "kind": Key(Choice(("cumulative", "isolated")), "whether errors are carried on; cumulative if not given"),
        "times": Key(NUMBER, "how often the floor the limit is, at most; 1 to 4", required=True),
    }
)
TOLERANCE = Record(
    {
        "metric": Key(TEXT, "what is measured", asked="PV-TOL-002"),
        "limit": Key(NUMBER, "the largest value that passes; finite, 0 or more", asked="PV-TOL-002"),
        "because": Key(TEXT, "why it is this large: the floor that was measured, and where", asked="PV-TOL-001"),
        "floor": Key(FLOOR, "the measured floor that it is held to"),
    }
)
TYPED = "pv computes levels from recorded evidence; what is typed here counts for nothing"
FALSIFICATION_TEST = Record(
    {
        "id": Key(TEXT, "unique among all contracts of a project", required=True),
        "rule": Key(TEXT, "what must hold", also=("description",), asked="PV-REQ-001"),
        "prediction": Key(
            TEXT, "what will be observed if it holds, with numbers", also=("expected",), asked="SCHEMA-008"
        ),
        "test": Key(
            TEXT, "a command or a test's name, for readers", also=("command",), instead=("test_harness", "name")
        ),
        "test_harness": Key(TEXT, "the same, in tests without test"),
        "name": Key(TEXT, "a label; read as the test where there is neither test nor test_harness"),
        "if_fails": Key(TEXT, "what is broken if it fails, and where to look", also=("fails_if",), asked="SCHEMA-009"),
        "binds_to": Key(TEXT, "the equation that it is about", ours=True, asked="PV-LINK-004"),
        "obligations": Key(
            TEXTS, "ids of the proof obligations that it tries to break", ours=True, asked="PV-LINK-005"
        ),
        "falsifiers": Key(MapOf(TEXT), "what runs: algorithm, live and oracle, each module:function", ours=True),
        "mutants": Key(TEXTS, "planted defects that the falsifier must catch", ours=True, asked="PV-RUN-003"),
        "models": Key(TEXTS, "names of the models that live and oracle falsifiers run on", ours=True),
        "tolerance": Key(TOLERANCE, "how far a measurement may go, and why", ours=True),
        "covers": Key(Choice(COVERS), "'document' if it is about the whole contract", ours=True),
        "status": Key(TEXT, "the level that it has earned; written by pv promote", ours=True),
    },
    free={
        "algorithm_evidence": TYPED,
        "functional_evidence": TYPED,
        "discharged_evidence": TYPED,
        "discharge_status": TYPED,
        "evidence_required": TYPED,
        "evidence_discharged_by": TYPED,
        "verdict": TYPED,
        "red_state": TYPED,
        "green_state": TYPED,
        "expected_output": "what will be observed is read from prediction",
        "element": "",
    },
)
VERIFICATION_SUMMARY = Record(
    {
        "total_obligations": Key(INTEGER, "how many proof obligations there are", required=True),
        "l2_property_tested": Key(INTEGER, "how many of them a test has tried to break"),
        "l3_kani_proved": Key(INTEGER, "how many of them Kani has proved"),
        "l4_lean_proved": Key(INTEGER, "how many of them Lean has proved"),
        "l4_sorry_count": Key(INTEGER, "how many have a proof in Lean with a hole"),
        "l4_not_applicable": Key(INTEGER, "how many ask for no proof in Lean"),
        "falsification_tests": Key(INTEGER, "how many tests there are; written by pv promote", ours=True),
        "bound": Key(INTEGER, "how many of them name a falsifier; written by pv promote", ours=True),
        **{level.value.lower(): Key(INTEGER, f"how many of them are {level.value}", ours=True) for level in Level},
    },
    free={"proven": "", "tested": "", "status": "", "notes": "", "evidence": ""},
)
ACCEPTABLE = (
    *("demotion", "tolerance", "mutant", "falsifier", "model", "test", "comparisons", "defect", "code", "retirement"),
)
"""What a contract may lose for a reason that it gives: the words below `accepts` in its changelog."""
CHANGELOG = ListOf(
    Record(
        {
            "version": Key(TEXT, "the version of the contract that it is about", required=True),
            "reason": Key(TEXT, "what changed, and why", required=True),
            "accepts": Key(
                MapOf(ListOf(Choice(ACCEPTABLE))),
                "what is lost on purpose: by test (retirement: by contract), the kinds of loss",
            ),
        }
    )
)
IN_EQUATIONS = "they are read in an equation"
CONTRACT = Record(
    {
        "metadata": Key(METADATA, "what the contract is, for whom, since when", required=True),
        "equations": Key(Named(EQUATION), "what holds, by name"),
        "proof_obligations": Key(ListOf(OBLIGATION), "what follows and has to be shown"),
        "falsification_tests": Key(ListOf(FALSIFICATION_TEST), "promises, and what tries to break them"),
        "kernel_structure": Key(KERNEL_STRUCTURE, "how the kernel is built"),
        "simd_dispatch": Key(MapOf(MapOf(TEXT)), "by operation and instruction set: the function"),
        "enforcement": Key(ENFORCEMENT, "rules by name"),
        "kani_harnesses": Key(KANI_HARNESSES, "bounded proofs by the model checker Kani"),
        "qa_gate": Key(QA_GATE, "when the contract counts as kept"),
        "verification_summary": Key(VERIFICATION_SUMMARY, "counts; pv promote computes them"),
        "changelog": Key(CHANGELOG, "why versions changed, and which losses `pv gate` may accept", ours=True),
        "type_invariants": Key(TYPE_INVARIANTS, "what holds for every value of a type"),
        "coq_spec": Key(COQ_SPEC, "the contract in Coq"),
        "beat": Key(BEAT, "of kind beat-benchmark: the incumbent's baseline, and what has to be reached"),
        "stories": Key(STORIES, "what competitors' users ask for"),
        "parity": Key(PARITY, "of kind competitive-parity: dated comparisons"),
        "evidence": Key(ANYTHING, "where the contract comes from: level, mark, provenance"),
        **KAIZEN,
    },
    free={
        "contract_id": "a contract is called after its file",
        "version": "it is read from metadata",
        "entity": "",
        "gates": "what must hold is read from equations and falsification_tests",
        "preconditions": IN_EQUATIONS,
        "postconditions": IN_EQUATIONS,
        "falsification": "tests are read from falsification_tests",
    },
)

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    name: (name, *key.also, *key.instead)
    for record in (OBLIGATION, FALSIFICATION_TEST)
    for name, key in record.keys.items()
}
"""Every key that a value of each key is read from, the first one first."""
