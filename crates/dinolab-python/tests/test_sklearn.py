"""The scikit-learn transformer."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from conftest import TINY, pixels

import dinolab

sklearn = pytest.importorskip("sklearn")

from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.exceptions import SkipTestWarning  # noqa: E402
from sklearn.utils import estimator_checks  # noqa: E402

from dinolab.sklearn import DinoFeatures  # noqa: E402


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([pixels(seed) for seed in range(16)])


def test_weights_that_exist_are_loaded(trained, images, embedder):
    features = DinoFeatures(trained).fit(images).transform(images)
    assert np.array_equal(features, embedder.embed(images))
    assert DinoFeatures(trained).fit_transform(images[0]).shape == (1, 32)
    normalised = DinoFeatures(trained, normalise=True).fit_transform(images)
    assert normalised.dtype == np.float32
    assert np.allclose(np.linalg.norm(normalised, axis=1), 1, atol=1e-6)


def test_without_weights_fit_trains(tmp_path, images):
    out = tmp_path / "run"
    transformer = DinoFeatures(out=out, settings=TINY).fit(images)
    assert np.array_equal(transformer.transform(images), dinolab.Embedder(out).embed(images))
    # The finished run is used again.
    before = (out / "metrics.jsonl").read_text()
    again = DinoFeatures(out=out, settings=TINY).fit(images)
    assert np.array_equal(again.transform(images), transformer.transform(images))
    assert (out / "metrics.jsonl").read_text() == before


def test_folders_and_lists_of_paths_are_images_too(photographs):
    paths = sorted(str(path) for path in photographs.glob("*/*.png"))
    of_list = DinoFeatures(settings=TINY).fit(paths)
    of_folder = DinoFeatures(settings={**TINY, "holdout": 0}).fit(photographs)
    assert of_list.transform(paths).shape == of_folder.transform(photographs).shape == (18, 32)


def test_it_is_a_step_of_a_pipeline(trained, images):
    labels = [seed % 2 for seed in range(16)]
    pipeline = make_pipeline(DinoFeatures(trained), LogisticRegression(C=1e4, max_iter=2000))
    pipeline.fit(images, labels)
    assert pipeline.score(images, labels) > 0.9
    names = pipeline[0].get_feature_names_out()
    assert list(names[:2]) == ["dinofeatures0", "dinofeatures1"] and len(names) == 32


def test_it_can_be_cloned_and_pickled(trained, images):
    transformer = DinoFeatures(trained, feature="both", batch_size=4)
    assert clone(transformer).get_params() == transformer.get_params()
    fitted = transformer.fit(images)
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.transform(images), fitted.transform(images))


def test_wrong_use_is_refused(trained, images):
    with pytest.raises(NotFittedError):
        DinoFeatures(trained).transform(images)
    with pytest.raises(dinolab.SettingError, match="nothing is trained"):
        DinoFeatures(trained, settings=TINY).fit(images)
    with pytest.raises(dinolab.ImageError, match="none to train on"):
        DinoFeatures(settings=TINY).fit([])
    with pytest.raises(dinolab.ImageError, match="of type int"):
        DinoFeatures(settings=TINY).fit([3])


#: Checks of scikit-learn that need no rows of numbers. The others fit such rows, which are no images; by the
#: estimator's tags, `check_estimator` leaves them out.
CHECKS = [
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
]


@pytest.mark.parametrize("name", CHECKS)
def test_the_checks_of_scikit_learn_pass(trained, name):
    check = getattr(estimator_checks, name, None)
    if check is None:
        pytest.skip("this version of scikit-learn has no such check")
    check("DinoFeatures", DinoFeatures(trained))


def test_check_estimator_runs_what_applies(trained):
    with pytest.warns(SkipTestWarning, match="requires input"):
        results = estimator_checks.check_estimator(DinoFeatures(trained), on_fail=None)
    assert results and all(result["status"] == "passed" for result in results)
