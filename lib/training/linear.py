"""The plain yardstick: principal components and logistic regression."""

from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.features.neighbours import smooth
from lib.training.fold_features import SectionFeatures

COMPONENTS = 50


def design(section: SectionFeatures, *, image: bool, genes: bool, smoothed: bool) -> np.ndarray:
    """Unscaled features side by side (n, p), each the mean over the neighbourhood where `smoothed`."""
    parts = [part for part, used in ((section.image, image), (section.genes, genes)) if used]
    return np.concatenate(
        [smooth(p, section.neighbours) if smoothed else p for p in parts], 1, dtype=np.float64
    )


def fit_linear(train: Sequence[SectionFeatures], *, image: bool, genes: bool, smoothed: bool) -> Pipeline:
    """z-score, at most 50 components, logistic regression (C = 0.01, classes balanced, sections weighted alike).

    Everything is fitted on the labelled spots of the training sections, the components on all their spots.
    """
    features = np.concatenate([design(s, image=image, genes=genes, smoothed=smoothed) for s in train])
    labels = np.concatenate([s.labels for s in train])
    weights = np.concatenate([np.full(len(s.labels), 1 / len(s.labels)) for s in train])
    known = ~np.isnan(labels)
    components = min(COMPONENTS, *features.shape)
    project = make_pipeline(StandardScaler(), PCA(components, random_state=0)).fit(features)
    regression = LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000)
    scaled = weights[known] / weights[known].mean()
    regression.fit(project.transform(features[known]), labels[known].astype(int), sample_weight=scaled)
    return make_pipeline(*(step for _, step in project.steps), regression)
