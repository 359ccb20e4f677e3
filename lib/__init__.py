"""Crossbook's library. Its rooms stand in the order the data walks through them.

files -> inputs -> features -> models -> training -> statistics -> figures -> phantoms -> study
"""

import warnings

from lib.torchvision_ops import install as _guard_torchvision

_guard_torchvision()
warnings.filterwarnings("ignore", "IProgress not found")  # tqdm, in red: bars are of text here
