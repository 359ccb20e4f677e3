"""Trainers for nnU-Net, which finds them through its variable nnUNet_extTrainer. Nothing of Crossbook imports them."""
