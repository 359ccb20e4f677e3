"""Gene expression as a model sees it: shared names, chosen genes, normalised and scaled counts."""

import warnings
from collections.abc import Sequence

import numpy as np
import scanpy as sc
from anndata import AnnData, concat
from scipy import sparse

SCALINGS = ("minmax", "robust", "zscore")


def shared_genes(sections: Sequence[AnnData]) -> list[str]:
    """Names of the genes that every section has, sorted.

    Raises
    ------
    ValueError
        If no gene is shared; the message shows how the names of the first and the odd section look.
    """
    names = set(sections[0].var_names)
    for section in sections[1:]:
        remaining = names & set(section.var_names)
        if not remaining:
            raise ValueError(
                f"section {section.uns['section']['name']} shares no gene with the sections before it: it has names "
                f"like {list(section.var_names[:3])}, they have names like {sorted(names)[:3]}; "
                "use the same kind of identifier (symbols or Ensembl) in all sections"
            )
        names = remaining
    return sorted(names)


def variable_genes(
    sections: Sequence[AnnData], genes: Sequence[str], n: int, *, as_released: bool = False
) -> list[str]:
    """Choose the `n` most variable genes from training sections (seurat_v3), in alphabetical order.

    Parameters
    ----------
    sections : sequence of AnnData
        Training sections only: the genes are part of what is fitted.
    genes : sequence of str
        Candidates, present in every section.
    n : int
        Genes to keep; all candidates where there are not more.
    as_released : bool
        The released code's habit: the first section only, and logged counts, which seurat_v3 does not expect.
    """
    genes = sorted(genes)  # in a fixed order: seurat_v3 breaks ties by position
    if len(genes) <= n:
        return genes
    pool = [sections[0][:, genes]] if as_released else [section[:, genes] for section in sections]
    counts = AnnData(concat(pool, label="batch", keys=[str(i) for i in range(len(pool))], index_unique="-"))
    if as_released:
        counts.X = normalise(counts.X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.highly_variable_genes(
            counts, n_top_genes=n, flavor="seurat_v3", batch_key=None if as_released else "batch"
        )
    return sorted(counts.var_names[counts.var["highly_variable"]])


def normalise(counts: sparse.spmatrix) -> sparse.csr_matrix:
    """log(1 + 10,000 * count / total of the spot); a spot without counts stays zero."""
    expression = AnnData(sparse.csr_matrix(counts, dtype=np.float32, copy=True))
    sc.pp.normalize_total(expression, target_sum=1e4)
    sc.pp.log1p(expression)
    return sparse.csr_matrix(expression.X)


def expression(section: AnnData, genes: Sequence[str]) -> np.ndarray:
    """Normalised expression of the chosen genes, totals taken over all genes of the section.

    Returns
    -------
    ndarray of float32, shape (spots, genes)
    """
    columns = section.var_names.get_indexer(list(genes))
    if (columns < 0).any():
        missing = [gene for gene, column in zip(genes, columns, strict=True) if column < 0]
        raise ValueError(
            f"section {section.uns['section']['name']} lacks {len(missing)} of {len(genes)} genes, "
            f"first {missing[:3]}: choose genes among lib.features.genes.shared_genes of all sections"
        )
    return normalise(section.X)[:, columns].toarray()


def scale(features: np.ndarray, how: str = "minmax") -> np.ndarray:
    """Scale each column within one section, so that batches meet on one range.

    This is transductive: a test section is scaled by its own numbers (not by its labels).

    Parameters
    ----------
    features : ndarray, shape (spots, features)
    how : {"minmax", "robust", "zscore"}
        "minmax": the paper's, to [0, 1], one outlier sets the scale. "robust": 1st to 99th percentile to [0, 1],
        clipped. "zscore": mean 0, standard deviation 1.
    """
    if how == "zscore":
        # a constant column's deviation is a rounding error, not 0
        low, span = features.mean(0), np.where(np.ptp(features, axis=0) > 0, features.std(0), 0)
    elif how == "minmax":
        low, span = features.min(0), np.ptp(features, axis=0)
    elif how == "robust":
        low, high = np.percentile(features, [1, 99], axis=0)
        # a marker seen in under 1 % of the spots would vanish: such columns keep their whole range
        low, high = np.where(high > low, (low, high), (features.min(0), features.max(0)))
        span = high - low
    else:
        raise ValueError(f"scaling {how!r} is unknown: use one of {SCALINGS}")
    scaled = (features - low) / np.where(span > 0, span, 1)
    return (np.clip(scaled, 0, 1) if how == "robust" else scaled).astype(np.float32)
