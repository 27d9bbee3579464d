"""Weights of many kinds, among them those that a search for scales may stumble over."""

import numpy as np


def families(rows: int, columns: int, seed: int = 0) -> dict[str, np.ndarray]:
    """(rows, columns) float32 of each kind, by its name."""
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal((rows, columns)) * 0.02
    found = {
        "gaussian": normal,
        "laplace": rng.laplace(size=(rows, columns)) * 0.02,
        "heavy-tailed": rng.standard_t(1.5, (rows, columns)) * 0.02,
        "uniform": rng.uniform(-0.05, 0.05, (rows, columns)),
        "constant": np.full((rows, columns), 0.0123),
        "negative constant": np.full((rows, columns), -0.0123),
        "zero": np.zeros((rows, columns)),
        "sparse outliers": normal * (1 + 200 * (rng.random((rows, columns)) < 0.003)),
        "mostly zero": normal * (rng.random((rows, columns)) < 0.1),
        "positive": np.abs(normal),
        "far from zero": normal + 0.5,
        "three values": np.rint(normal / 0.03) * 0.03,
        "below float16": normal * 1e-5,
        "far below float16": normal * 1e-7,
        "large": normal * 1e5,
    }
    return {name: values.astype(np.float32) for name, values in found.items()}


def squared_error(got: np.ndarray, want: np.ndarray) -> float:
    """The sum over all weights."""
    return float(np.sum((got.astype(np.float64) - want) ** 2))
