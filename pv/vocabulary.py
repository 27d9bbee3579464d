"""The vocabulary of contracts: every key that is known, what its value must be, and its other spellings.

It is that of public contracts of this kind, both generations of them, and ours beside it. Keys that are not listed are
allowed everywhere.
"""

from collections.abc import Mapping

from pv.shapes import ANYTHING, FLAG, INTEGER, NUMBER, TEXT, Choice, Key, ListOf, MapOf, Named, Record

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
        "version": Key(TEXT),  # SCHEMA-002 asks for it
        "description": Key(TEXT, required=True),
        "created": Key(TEXT),
        "author": Key(TEXT),
        "references": Key(TEXTS),
        "depends_on": Key(TEXTS),
        "registry": Key(FLAG),
        "kind": Key(Choice(KINDS)),
        "enforcement_level": Key(Choice(("basic", "standard", "strict", "proven"))),
        "locked_level": Key(TEXT),
    }
)
EQUATION = Record(
    {
        "formula": Key(TEXT),
        "domain": Key(TEXT),
        "codomain": Key(TEXT),
        "invariants": Key(TEXTS),
        "preconditions": Key(TEXTS),
        "postconditions": Key(TEXTS),
        "lean_theorem": Key(TEXT),
        "float_tolerance": Key(NUMBER),
    }
)
LEAN = Record(
    {
        "theorem": Key(TEXT, required=True),
        "module": Key(TEXT),
        "status": Key(Choice(("proved", "sorry", "wip", "not-applicable"))),
        "depends_on": Key(TEXTS),
        "mathlib_imports": Key(TEXTS),
        "notes": Key(TEXT),
    }
)
OBLIGATION = Record(
    {
        "id": Key(TEXT),
        "type": Key(Choice(OBLIGATION_TYPES)),
        "property": Key(TEXT, also=("statement",)),
        "formal": Key(TEXT, also=("verification",)),
        "tolerance": Key(NUMBER),
        "applies_to": Key(TEXT),
        "na_reason": Key(TEXT),
        "na_owner": Key(TEXT),
        "lean": Key(LEAN),
        "requires": Key(TEXT),
        "applies_to_phase": Key(TEXT),
        "parent_contract": Key(TEXT),
    }
)
COVERS = ("document",)
"""What a promise may be about beside the equation and the obligations that its test names."""

TOLERANCE = Record({"metric": Key(TEXT), "limit": Key(NUMBER), "because": Key(TEXT)})
FALSIFICATION_TEST = Record(
    {
        "id": Key(TEXT, required=True),
        "rule": Key(TEXT, also=("description",)),
        "prediction": Key(TEXT, also=("expected",)),
        "test": Key(TEXT, also=("command", "test_harness", "name")),
        "if_fails": Key(TEXT, also=("fails_if",)),
        "binds_to": Key(TEXT, ours=True),
        "obligations": Key(TEXTS, ours=True),
        "falsifiers": Key(MapOf(TEXT), ours=True),
        "mutants": Key(TEXTS, ours=True),
        "models": Key(TEXTS, ours=True),
        "tolerance": Key(TOLERANCE, ours=True),
        "covers": Key(Choice(COVERS), ours=True),
        "status": Key(TEXT, ours=True),
    }
)
KANI_HARNESS = Record(
    {
        "id": Key(TEXT, required=True),
        "obligation": Key(TEXT),  # SCHEMA-011 asks for it
        "property": Key(TEXT),
        "bound": Key(INTEGER),
        "strategy": Key(Choice(("exhaustive", "stub_float", "compositional", "bounded_int"))),
        "solver": Key(TEXT),
        "harness": Key(TEXT),
        "actually_verified": Key(FLAG),
    }
)
CONTRACT = Record(
    {
        "metadata": Key(METADATA, required=True),
        "equations": Key(Named(EQUATION)),
        "proof_obligations": Key(ListOf(OBLIGATION)),
        "kernel_structure": Key(
            Record(
                {
                    "phases": Key(
                        ListOf(
                            Record(
                                {
                                    "name": Key(TEXT, required=True),
                                    "description": Key(TEXT, required=True),
                                    "invariant": Key(TEXT),
                                }
                            )
                        )
                    )
                }
            )
        ),
        "simd_dispatch": Key(MapOf(MapOf(TEXT))),
        "enforcement": Key(
            MapOf(
                Record(
                    {
                        "description": Key(TEXT, required=True),
                        "check": Key(TEXT),
                        "severity": Key(TEXT),
                        "reference": Key(TEXT),
                    }
                )
            )
        ),
        "falsification_tests": Key(ListOf(FALSIFICATION_TEST)),
        "kani_harnesses": Key(ListOf(KANI_HARNESS)),
        "qa_gate": Key(
            Record(
                {
                    "id": Key(TEXT, required=True),
                    "name": Key(TEXT),
                    "description": Key(TEXT),
                    "checks": Key(TEXTS),
                    "pass_criteria": Key(TEXT),
                    "falsification": Key(TEXT),
                }
            )
        ),
        "verification_summary": Key(
            Record(
                {
                    "total_obligations": Key(INTEGER, required=True),
                    "l2_property_tested": Key(INTEGER),
                    "l3_kani_proved": Key(INTEGER),
                    "l4_lean_proved": Key(INTEGER),
                    "l4_sorry_count": Key(INTEGER),
                    "l4_not_applicable": Key(INTEGER),
                }
            )
        ),
        "type_invariants": Key(
            ListOf(
                Record(
                    {
                        "name": Key(TEXT, required=True),
                        "type": Key(TEXT, required=True),
                        "predicate": Key(TEXT, required=True),
                        "description": Key(TEXT),
                    }
                )
            )
        ),
        "coq_spec": Key(ANYTHING),
        "beat": Key(ANYTHING),
        "stories": Key(ANYTHING),
        "parity": Key(ANYTHING),
        "evidence": Key(ANYTHING),
        # the loose keys of kind kaizen
        "contract": Key(ANYTHING),
        "title": Key(ANYTHING),
        "kaizen": Key(ANYTHING),
        "parent": Key(ANYTHING),
        "status": Key(ANYTHING),
        "date": Key(ANYTHING),
        "baseline": Key(ANYTHING),
        "target": Key(ANYTHING),
        "invariants": Key(ANYTHING),
    }
)

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    name: (name, *key.also) for record in (OBLIGATION, FALSIFICATION_TEST) for name, key in record.keys.items()
}
"""Every spelling of a key that has more than one, the first one first."""
