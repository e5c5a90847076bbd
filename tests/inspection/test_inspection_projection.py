"""Principal components equal scikit-learn's; a map of neighbours keeps groups together."""

from __future__ import annotations

import numpy as np
import pytest

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.inspection.vectors.projection import plane_map, principal_components


def test_principal_components_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    vectors = rng(0, "vectors").normal(size=(30, 8)) * np.arange(1, 9)
    found, shares = principal_components(vectors)
    reference = PCA(2)
    expected = reference.fit_transform(vectors)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(shares, reference.explained_variance_ratio_, rtol=1e-9)
    assert (found[np.abs(found).argmax(0), [0, 1]] > 0).all()


def test_two_equal_vectors_have_one_place():
    found, shares = principal_components(np.ones((2, 5)))
    assert not found.any()
    assert not shares.any()


def test_a_map_of_one_text_is_refused():
    with pytest.raises(UserError, match="a map of 1 text by pca"):
        plane_map(("a",), np.ones((1, 3)))


def test_a_map_of_neighbours_keeps_groups_together():
    pytest.importorskip("openTSNE")
    random = rng(0, "groups")
    centres = np.repeat(random.normal(size=(3, 12)) * 4, 8, axis=0)
    vectors = centres + random.normal(size=(24, 12)) * 0.2
    labels = tuple(str(i) for i in range(24))
    points = plane_map(labels, vectors, "neighbours").points
    distances = np.linalg.norm(points[:, None] - points, axis=-1) + np.eye(24) * 1e9
    assert (distances.argmin(1) // 8 == np.arange(24) // 8).all()
    np.testing.assert_array_equal(points, plane_map(labels, vectors, "neighbours").points)
