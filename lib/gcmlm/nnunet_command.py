"""Runs a command of nnU-Net beside a torchvision that cannot load: `python -m lib.gcmlm.nnunet_command NAME ...`.

The console script of the same name would stop at "operator torchvision::nms does not exist"; importing `lib` prevents
that (see `lib.torchvision_ops`). As nnU-Net's worker processes import this module again, they are guarded as well.
"""

import sys
from importlib.metadata import entry_points

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    (script,) = entry_points(group="console_scripts", name=sys.argv[0])
    sys.exit(script.load()())
