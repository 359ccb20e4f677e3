"""How a model of functional outcome is trained."""

from dataclasses import dataclass, replace

QUIRKS = ("frozen_positions", "scaler_on_all", "epoch_by_test")
RELEASED = ("frozen_positions", "scaler_on_all")


@dataclass(frozen=True)
class Recipe:
    """How a model of functional outcome is trained.

    Attributes
    ----------
    epochs, batch : int
        The last epoch counts unless `inner_folds` or a quirk says otherwise; patients a step.
    learning_rate : float
        Of Adam, where its schedule begins.
    schedule : {"warm_restarts", "one_fall"}
        The paper's 16 cosines, each three quarters as high as the one before, or a tenth of warming up and one cosine.
    widths, channels : tuple of int, int
        Channels of the encoder's four stages and of its last convolution; the paper's are 16, 32, 64, 128 and 1.
    heads, dropout : int, float
    frames_at_once : int
        Frames the encoder reads together; 0 all. Changes memory, not the result.
    bf16 : bool
        The encoder's convolutions in bfloat16: half the time on a processor that has it, logits move by hundredths.
    mirrored : bool
        In training, exchange left and right of a scan at random each time it comes up. The paper does not.
    standardise : bool
        Take from every voxel and frame its mean over the training patients; the paper does not.
    inner_folds : int
        Folds within the training patients that choose the number of epochs by their mean AUC, after which the model is
        trained on all of them for as long; 0 keeps `epochs`.
    quirks : tuple of str
        Habits of the released code, see `QUIRKS`: position vectors that are random and never learnt; a scaler of the
        clinical numbers that has seen the held-out patients; the epoch that was best on the held-out patients. The
        last one is not what the code does, but what its validation on the test patients invites to: `RELEASED` is
        without it.
    """

    epochs: int = 100
    batch: int = 1
    learning_rate: float = 1e-3
    schedule: str = "warm_restarts"
    widths: tuple[int, ...] = (16, 32, 64, 128)
    channels: int = 1
    heads: int = 8
    dropout: float = 0.2
    frames_at_once: int = 0
    bf16: bool = False
    mirrored: bool = False
    standardise: bool = False
    inner_folds: int = 0
    quirks: tuple[str, ...] = ()

    def with_quirks(self, *quirks: str) -> "Recipe":
        """The same recipe with these habits of the released code."""
        return replace(self, quirks=tuple(sorted({*self.quirks, *quirks})))
