"""A section's spots, seen by an encoder."""

import numpy as np
from anndata import AnnData

from lib.features.crops import crop_spots, white_share
from lib.features.encoders import Encoder

MOSTLY = 0.8


def embed_spots(section: AnnData, picture: np.ndarray, encoder: Encoder) -> tuple[np.ndarray, dict[str, int]]:
    """Crop the picture round every spot and encode the crops.

    Parameters
    ----------
    section : AnnData
        Needs obsm["spatial"] (full-resolution pixels) and uns["section"] with um_per_px and picture_scale.
    picture : ndarray of uint8, shape (height, width, 3)
        The section's picture, RGB, full-resolution pixels times picture_scale.
    encoder : Encoder

    Returns
    -------
    features : ndarray of float32, shape (n, encoder.dim)
        In the order of the section's spots.
    counts : dict
        n_white: spots of whose crop more than 80 % looks like glass; n_failed: always 0, since a crop that cannot be
        cut raises.

    Raises
    ------
    ValueError
        A spot outside the picture (named); a section without picture.
    """
    about = section.uns["section"]
    scale = np.asarray(about["picture_scale"], float)
    if not about["picture"]:
        raise ValueError(f"section {about['name']} has no picture: run it with genes only")
    size_px = encoder.crop_um / about["um_per_px"] * scale
    features, n_white = [], 0
    try:
        for crops in crop_spots(picture, section.obsm["spatial"] * scale, size_px, encoder.input_px):
            features.append(encoder.encode(crops))
            n_white += int((white_share(crops) > MOSTLY).sum())
    except ValueError as error:
        raise ValueError(f"section {about['name']}: {error}") from error
    return np.concatenate(features), {"n_white": n_white, "n_failed": 0}
