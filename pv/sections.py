"""The sections that only some kinds of contracts have, and those for other provers: what each key of theirs holds."""

from pv.shapes import ANYTHING, FLAG, INTEGER, NUMBER, TEXT, Choice, Key, ListOf, MapOf, Record

INTAKE = ("missing", "partial", "supported", "unclear")
VERDICTS = ("BETTER", "PARITY", "WORSE", "NOT_COMPARABLE", "UNMEASURED")

KERNEL_STRUCTURE = Record(
    {
        "phases": Key(
            ListOf(
                Record(
                    {
                        "name": Key(TEXT, "what the phase is called", required=True),
                        "description": Key(TEXT, "what the phase does", required=True),
                        "invariant": Key(TEXT, "what holds after the phase"),
                    }
                )
            ),
            "phases of the kernel, in the order of execution",
        )
    }
)
ENFORCEMENT = MapOf(
    Record(
        {
            "description": Key(TEXT, "what is enforced", required=True),
            "check": Key(TEXT, "what checks it"),
            "severity": Key(TEXT, "how bad a breach is"),
            "reference": Key(TEXT, "where this is laid down"),
        }
    )
)
KANI_HARNESSES = ListOf(
    Record(
        {
            "id": Key(TEXT, "unique among the harnesses", required=True),
            "obligation": Key(TEXT, "the proof obligation that it proves", asked="SCHEMA-011"),
            "property": Key(TEXT, "what it proves, in words"),
            "bound": Key(INTEGER, "up to which size it looks", asked="SCHEMA-012"),
            "strategy": Key(
                Choice(("exhaustive", "stub_float", "compositional", "bounded_int")), "how the inputs are bounded"
            ),
            "solver": Key(TEXT, "the SAT solver"),
            "harness": Key(TEXT, "name of the function with #[kani::proof]"),
            "actually_verified": Key(FLAG, "whether a run of Kani has passed"),
        }
    )
)
QA_GATE = Record(
    {
        "id": Key(TEXT, "unique among all gates", asked="PV-REQ-001"),
        "name": Key(TEXT, "what the gate is called", asked="PV-REQ-001"),
        "description": Key(TEXT, "what the gate is for"),
        "checks": Key(ListOf(TEXT), "what the gate looks at"),
        "pass_criteria": Key(TEXT, "when the gate opens", asked="PV-REQ-001"),
        "falsification": Key(TEXT, "a defect that the gate must catch"),
    }
)
TYPE_INVARIANTS = ListOf(
    Record(
        {
            "name": Key(TEXT, "what the invariant is called", required=True),
            "type": Key(TEXT, "the type whose values keep it", required=True),
            "predicate": Key(TEXT, "a boolean expression over a value of the type", required=True),
            "description": Key(TEXT, "the invariant in words"),
        }
    )
)
COQ_SPEC = Record(
    {
        "module": Key(TEXT, "the Coq module", required=True),
        "imports": Key(ListOf(TEXT, ordered=True), "modules that it requires"),
        "definitions": Key(
            ListOf(
                Record(
                    {
                        "name": Key(TEXT, "what is defined", required=True),
                        "statement": Key(TEXT, "its definition", required=True),
                    }
                )
            ),
            "definitions made of the equations",
        ),
        "obligations": Key(
            ListOf(
                Record(
                    {
                        "links_to": Key(TEXT, "the proof obligation", required=True),
                        "coq_lemma": Key(TEXT, "the lemma that proves it", required=True),
                        "status": Key(TEXT, "how far the proof is; 'stub' if not given"),
                    }
                )
            ),
            "which lemma proves which proof obligation",
        ),
    }
)
BEAT = Record(
    {
        "pillar": Key(INTEGER, "number of the incumbent's field"),
        "incumbent": Key(TEXT, "who is to be beaten", asked="BEAT-002"),
        "incumbent_pinned": Key(TEXT, "which version of the incumbent, and how it was pinned"),
        "canonical_task": Key(TEXT, "the incumbent's own task that is measured"),
        "metric": Key(TEXT, "what is measured", asked="BEAT-003"),
        "direction": Key(TEXT, "higher_is_better or lower_is_better", asked="BEAT-004"),
        "baseline_value": Key(NUMBER, "what the incumbent reached"),
        "baseline_floor": Key(NUMBER, "the incumbent's worst value"),
        "beat_threshold": Key(NUMBER, "what has to be reached", asked="BEAT-005"),
        "baseline_sourced_date": Key(TEXT, "day of the baseline's measurement, YYYY-MM-DD"),
        "approved_compute": Key(TEXT, "CPU or GPU", asked="BEAT-007"),
        "ci_gate_name": Key(TEXT, "the job of CI that keeps the threshold", asked="BEAT-006"),
    }
)
STORIES = ListOf(
    Record(
        {
            "id": Key(TEXT, "unique among the stories"),
            "competitor": Key(TEXT, "whose tool the story was seen in", asked="CRUX-002"),
            "demand_score": Key(INTEGER, "how much it is asked for, 1 to 5", asked="CRUX-001"),
            "status": Key(Choice(INTAKE), "how far it is supported here"),
        },
        free={"title": "", "contract": "", "category": ""},
    )
)
PARITY = Record(
    {
        "scope": Key(TEXT, "how it was found out what has to be compared"),
        "rows": Key(
            ListOf(
                Record(
                    {
                        "entry_point": Key(TEXT, "what of ours is compared; the row's name", asked="PARITY-002"),
                        "competitor": Key(TEXT, "the tool it is compared with", asked="PARITY-003"),
                        "competitor_version": Key(TEXT, "that tool's exact version", asked="PARITY-004"),
                        "invocation_apr": Key(TEXT, "our exact command", asked="PARITY-005"),
                        "invocation_competitor": Key(TEXT, "the competitor's exact command", asked="PARITY-005"),
                        "dimension": Key(TEXT, "what is compared", asked="PARITY-010"),
                        "verdict": Key(Choice(VERDICTS), "who was better", asked="PARITY-006"),
                        "measured_on": Key(TEXT, "day of the measurement, YYYY-MM-DD", asked="PARITY-007"),
                        "valid_until": Key(
                            TEXT, "day after which the row counts as unmeasured, YYYY-MM-DD", asked="PARITY-007"
                        ),
                        "owner": Key(TEXT, "who measures again", asked="PARITY-008"),
                        "evidence": Key(TEXT, "where the measurement can be looked up", asked="PARITY-009"),
                        "note": Key(TEXT, "what the numbers leave out"),
                    }
                )
            ),
            "one comparison each",
        ),
        "downgrades": Key(
            ListOf(
                Record(
                    {
                        "entry_point": Key(TEXT, "the row that has lost its measurement"),
                        "reason": Key(TEXT, "why it was withdrawn"),
                        "owner": Key(TEXT, "who measures again"),
                        "recorded_on": Key(TEXT, "day of the withdrawal, YYYY-MM-DD"),
                        "recheck_by": Key(TEXT, "day by which it is measured again, YYYY-MM-DD"),
                        "detail": Key(TEXT, "what else there is to say"),
                    }
                )
            ),
            "measurements that were withdrawn",
        ),
    },
    free={"removals": "", "coverage": ""},
)
KAIZEN = {
    "contract": Key(ANYTHING, "the record's own id", kind="kaizen"),
    "title": Key(ANYTHING, "the improvement in a line", kind="kaizen"),
    "kaizen": Key(ANYTHING, "the improvement's ticket", kind="kaizen"),
    "parent": Key(ANYTHING, "the contract that it improves", kind="kaizen"),
    "status": Key(ANYTHING, "draft, planned, pending, implementing or implemented", kind="kaizen"),
    "date": Key(ANYTHING, "when it was recorded", kind="kaizen"),
    "baseline": Key(ANYTHING, "metrics before the change", kind="kaizen"),
    "target": Key(ANYTHING, "the same metrics after it", kind="kaizen"),
    "invariants": Key(ANYTHING, "what the change must not break", kind="kaizen"),
}
"""Keys at the top of a contract of kind kaizen; in contracts of other kinds they mean nothing."""
