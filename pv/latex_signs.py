r"""What signs, words and accents of formulas are in LaTeX with amsmath and amssymb."""


def _table(text: str) -> dict[str, str]:
    words = text.split()
    return dict(zip(words[::2], words[1::2], strict=True))


def _themselves(prefix: str, words: str, suffix: str = "") -> dict[str, str]:
    return {word: f"{prefix}{word}{suffix}" for word in words.split()}


NAMES = {
    **_themselves("\\", "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau"),
    **_themselves("\\", "upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"),
    **_table(r"eps \epsilon inf \infty infinity \infty"),
}
FUNCTIONS = {
    **_themselves("\\", "exp log ln sin cos tan sinh cosh tanh arctan arcsin arccos max min sup lim det gcd deg dim"),
    **_themselves(r"\operatorname{", "argmax argmin softmax sigmoid sign mean sum prod round floor ceil abs sqrt", "}"),
    **_table(r"log2 \log_{2} log10 \log_{10}"),
}
BIG = _table(r"sum \sum prod \prod integral \int")
"""Words that are a sign where a subscript follows."""

SIGNS = _table(r"""
    ≤ \le  ≥ \ge  ≠ \ne  ≈ \approx  ≡ \equiv  ≪ \ll  ≫ \gg  ∼ \sim  ≃ \simeq  ≅ \cong  ∝ \propto  ⊥ \perp  ≔ :=
    ∈ \in  ∉ \notin  ∋ \ni  ⊂ \subset  ⊆ \subseteq  ⊃ \supset  ⊇ \supseteq  ∪ \cup  ∩ \cap  ∅ \emptyset  ∖ \setminus
    ∧ \land  ∨ \lor  ¬ \lnot  ∀ \forall  ∃ \exists  ⊤ \top  ⊢ \vdash
    → \to  ← \leftarrow  ↔ \leftrightarrow  ⇒ \Rightarrow  ⇐ \Leftarrow  ⇔ \Leftrightarrow  ↦ \mapsto
    ⟹ \Longrightarrow  ⟺ \Longleftrightarrow  ⟶ \longrightarrow
    ∑ \sum  ∏ \prod  ∫ \int  ∂ \partial  ∇ \nabla  ∞ \infty  ℓ \ell
    · \cdot  ⋅ \cdot  × \times  ÷ \div  ± \pm  ∓ \mp  ∗ \ast  ∘ \circ  ⊗ \otimes  ⊕ \oplus  ⊙ \odot  ⊖ \ominus  − -
    ⌈ \lceil  ⌉ \rceil  ⌊ \lfloor  ⌋ \rfloor  ⟨ \langle  ⟩ \rangle  ‖ \|  ∥ \|  ∣ \mid  … \ldots  ⋯ \cdots
    ℝ \mathbb{R}  ℕ \mathbb{N}  ℤ \mathbb{Z}  ℂ \mathbb{C}  ℚ \mathbb{Q}  ℙ \mathbb{P}  𝔼 \mathbb{E}
    α \alpha  β \beta  γ \gamma  δ \delta  ε \epsilon  ϵ \epsilon  ζ \zeta  η \eta  θ \theta  ϑ \vartheta  ι \iota
    κ \kappa  λ \lambda  μ \mu  µ \mu  ν \nu  ξ \xi  π \pi  ρ \rho  σ \sigma  ς \varsigma  τ \tau  υ \upsilon
    φ \phi  ϕ \phi  χ \chi  ψ \psi  ω \omega
    Γ \Gamma  Δ \Delta  Θ \Theta  Λ \Lambda  Ξ \Xi  Π \Pi  Σ \sum  Υ \Upsilon  Φ \Phi  Ψ \Psi  Ω \Omega
    <= \le  >= \ge  != \ne  == ==  := :=  -> \to  => \Rightarrow  <=> \Leftrightarrow  <-> \leftrightarrow
    ... \ldots  || \|  ~ \sim  \ \backslash  % \%  & \&  # \#  $ \$  { \{  } \}
    + +  - -  * *  / /  = =  < <  > >  | |  ( (  ) )  [ [  ] ]  , ,  ; ;  : :  . .  ! !  ? ?  @ @
""")
"""Signs of mathematics. A capital sigma is taken for a sum, as contracts use it."""
MARKS = frozenset("()[]{},;:.!?|%&#$\\…")
"""Those around which TeX sets no space."""

ACCENTS = {
    "\u0302": "hat", "\u0304": "bar", "\u0305": "overline", "\u0303": "tilde", "\u0307": "dot", "\u0308": "ddot",
    "\u0300": "grave", "\u0301": "acute", "\u030c": "check", "\u0306": "breve", "\u20d7": "vec",
}  # fmt: skip
"""Combining characters, which follow their letter."""
RAISED = {
    **dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱᵀᵗᵏʲ", "0123456789+-=()niTtkj", strict=True)),
    **_table(r"° \circ ' \prime ′ \prime"),
}
LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₒₓₕₖₗₘₙₚₛₜᵢⱼᵣᵤᵥ", "0123456789+-=()aeoxhklmnpstijruv", strict=True))

IN_TEXT = {
    **_themselves("\\", "% & # $ _ { }"),
    **_table(
        r"\ \textbackslash{} ~ \textasciitilde{} ^ \textasciicircum{} < \textless{} > \textgreater{} | \textbar{}"
    ),
    **_table(r"– -- — --- ‘ ` ’ ' “ `` ” '' ß \ss{}"),
    '"': "''",
    "\u00a0": "~",
}
"""Characters that stand for something else in text."""
ACCENTS_IN_TEXT = dict(zip("\u0302\u0304\u0303\u0307\u0308\u0300\u0301\u030c\u0306\u0327", "^=~.\"`'vuc", strict=True))
