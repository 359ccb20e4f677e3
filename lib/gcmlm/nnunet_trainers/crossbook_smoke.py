"""A training of nnU-Net small enough to see that everything is connected. It learns nothing worth a number."""

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class nnUNetTrainerSmoke(nnUNetTrainer):
    """One epoch of 10 training and 2 validation iterations instead of 1,000 epochs of 250 and 50."""

    # nnU-Net looks up the names of these parameters
    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008  as in nnU-Net
    ):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 1
        self.num_iterations_per_epoch = 10
        self.num_val_iterations_per_epoch = 2
