"""Golden numbers of PCA whitening, by NumPy's singular values instead of an eigenproblem.

    python benches/peers/whitening.py > crates/dinolab-eval/tests/fixtures/whitening/golden.json
"""

import json

import numpy as np

FLOOR = np.sqrt(1e-5)


def case(name, train, test):
    train, test = train.astype(np.float32), test.astype(np.float32)
    wide = train.astype(np.float64)
    mean = wide.mean(axis=0)
    # Rows as singular vectors: with fewer rows than columns, the rest of the directions is completed.
    _, values, turned = np.linalg.svd(wide - mean, full_matrices=True)
    deviations = np.zeros(train.shape[1])
    deviations[: len(values)] = values / np.sqrt(len(train))
    deviations = np.maximum(deviations, FLOOR * deviations.max())
    both = np.concatenate([train, test]).astype(np.float64)
    white = (both - mean) @ turned.T / deviations
    distances = [
        float(np.linalg.norm(white[i] - white[j])) for i in range(len(white)) for j in range(i)
    ]
    return {
        "name": name,
        "dim": train.shape[1],
        "train": train.ravel().astype(float).tolist(),
        "test": test.ravel().astype(float).tolist(),
        "mean": mean.tolist(),
        "deviations": deviations.tolist(),
        "distances": distances,
    }


def main():
    random = np.random.default_rng(0)
    mixed = random.normal(size=(7, 7))
    rows = random.normal(size=(46, 7)) @ mixed + random.normal(size=7) * 3
    spread = random.normal(size=(30, 5)) * [3.0, 1.0, 0.1, 1e-4, 0.0] + 2
    few = random.normal(size=(9, 8))
    cases = [
        case("mixed", rows[:40], rows[40:]),
        case("dead directions", spread[:26], spread[26:]),
        case("fewer rows than columns", few[:5], few[5:]),
    ]
    print(json.dumps({"cases": cases}))


if __name__ == "__main__":
    main()
