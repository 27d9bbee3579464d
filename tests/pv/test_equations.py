from pv.cli import main

HEAD = "metadata: {version: 1.0.0, kind: pattern, description: d, references: [r]}\n"

TEXT = (
    HEAD
    + """\
equations:
  rms_norm:
    formula: |
      y = x / √m
      m = Σ x_i² / n
    domain: x ∈ ℝ^n
    codomain: y in R^n
    invariants: ["50% & more", "y_i <= 1"]
  other: {formula: a}
"""
)


def run(capsys, *args):
    code = main(["equations", *map(str, args)])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def test_text_shows_each_equation_with_its_line(tmp_path, capsys, monkeypatch):
    (tmp_path / "x-v1.yaml").write_text(TEXT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "x-v1.yaml") == (
        0,
        [
            "x-v1.yaml",
            "  rms_norm (line 3)",
            "    y = x / √m",
            "    m = Σ x_i² / n",
            "    domain: x ∈ ℝ^n",
            "    codomain: y in R^n",
            "    invariant: 50% & more",
            "    invariant: y_i <= 1",
            "  other (line 10)",
            "    a",
            "1 contract: 2 equations",
        ],
        "",
    )


def test_latex_is_a_document_of_its_own(tmp_path, capsys):
    (tmp_path / "x_1-v1.yaml").write_text(TEXT, encoding="utf-8")
    (tmp_path / "y-v1.yaml").write_text(HEAD)
    code, lines, err = run(capsys, "--format", "latex", tmp_path)
    assert (code, err) == (0, "")
    assert lines == [
        r"\documentclass{article}",
        r"\usepackage{amsmath,amssymb}",
        r"\begin{document}",
        "",
        r"\section*{x\_1-v1}",
        r"\begin{description}",
        r"\item[{rms\_norm}] $\displaystyle y = x / \sqrt{m}$ \newline "
        r"$\displaystyle m = \sum \, x_{i}^{2} / n$",
        r"\par domain: $\displaystyle x \in \mathbb{R}^{n}$",
        r"\par codomain: $\displaystyle y \  \text{in} \  R^{n}$",
        r"\par invariant: $\displaystyle 50 \% \& \  \text{more}$",
        r"\par invariant: $\displaystyle y_{i} \le 1$",
        r"\item[{other}] $\displaystyle a$",
        r"\end{description}",
        "",
        r"\section*{y-v1}",
        "No equation.",
        "",
        r"\end{document}",
    ]


def test_no_equation_at_all_is_nothing_measured(tmp_path, capsys):
    (tmp_path / "x-v1.yaml").write_text(HEAD)
    assert run(capsys, tmp_path)[0] == 2


def test_an_equation_that_cannot_be_read_is_said_and_never_green(tmp_path, capsys):
    (tmp_path / "x-v1.yaml").write_text(HEAD + "equations: {e: y = x, f: {formula: z}}\n")
    code, _, err = run(capsys, tmp_path)
    assert code == 2
    assert "x-v1.yaml:2:13: not measured: is not read: equations.e must be a mapping" in err
