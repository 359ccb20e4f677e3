"""Crossbook's library. Its rooms stand in the order the data walks through them.

files -> inputs -> features -> models -> training -> statistics -> figures -> phantoms -> study
"""

from lib.torchvision_ops import install as _guard_torchvision

_guard_torchvision()
