"""Runs a command of nnU-Net beside a torchvision that cannot load: `python -m lib.gcmlm.nnunet_command NAME ...`.

The console script of the same name would stop at "operator torchvision::nms does not exist"; importing `lib` prevents
that (see `lib.torchvision_ops`). As nnU-Net's worker processes import this module again, they are guarded as well.
"""

import sys
from importlib.metadata import entry_points


def main(arguments: list[str]) -> None:
    """Do what the console script does, with the trainers of `lib.gcmlm.nnunet_trainers` at hand."""
    name = arguments[0]
    (script,) = entry_points(group="console_scripts", name=name)
    run = script.load()
    if name in ("nnUNetv2_train", "nnUNetv2_predict"):
        offer_trainers()
    sys.argv = arguments
    sys.exit(run())


def offer_trainers() -> None:
    """Let nnU-Net before 2.8, which looks for trainers in its own modules only, find ours there."""
    from nnunetv2 import paths

    if hasattr(paths, "nnUNet_extTrainer"):
        return
    from nnunetv2.training.nnUNetTrainer import nnUNetTrainer

    from lib.gcmlm.nnunet_trainers import crossbook_smoke

    nnUNetTrainer.nnUNetTrainerSmoke = crossbook_smoke.nnUNetTrainerSmoke


if __name__ == "__main__":
    main(sys.argv[1:])
