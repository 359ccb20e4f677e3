"""Tensors on disk as safetensors, whole or not at all."""

import os
from collections.abc import Mapping

from safetensors.torch import save
from torch import Tensor

from lib.files import written


def write_weights(
    tensors: Mapping[str, Tensor], path: str | os.PathLike, about: Mapping[str, str] | None = None
) -> None:
    """Write tensors atomically; equal tensors give equal bytes.

    Not by safetensors' own `save_file`: that works on a hidden file of its own beside the one it is given, which stays
    where the process is killed.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        On any device; memory that several of them share is refused by safetensors.
    path : path
    about : mapping of str to str, optional
        The file's metadata.

    Raises
    ------
    DiskFull
    """
    content = save(
        {name: value.contiguous() for name, value in tensors.items()}, dict(about) if about else None
    )
    with written(path, size=len(content)) as part:
        part.write_bytes(content)
