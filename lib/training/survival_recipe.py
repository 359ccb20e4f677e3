"""How a survival model is trained."""

from dataclasses import dataclass, replace

QUIRKS = ("dropout_in_evaluation", "rate_to_zero", "slide_unit", "cohort_bins", "best_epoch")


@dataclass(frozen=True)
class Recipe:
    """How a survival model is trained.

    Attributes
    ----------
    epochs, learning_rate, weight_decay : int, float, float
        Adam, weight decay as a penalty on the loss. The rate falls to a tenth along a cosine over all epochs.
    accumulate : int
        Cases whose gradients make one step.
    bins, alpha : int, float
        See `lib.training.discrete_time`.
    balanced : bool
        Draw cases so that every bin of the dead and of the censored comes up equally often.
    cap : int
        Most 20x tiles of a case in training, drawn anew each epoch and together with the tiles around them; 0 all.
    width, heads : int
        Size of the model.
    bf16 : bool
        CrossFusion's matrix products in bfloat16: about half the time on a CPU that has it, logits move by thousandths.
    quirks : tuple of str
        Habits of the released code, see `QUIRKS`: dropout also in evaluation; a learning rate that falls to zero
        at every tenth epoch; slides as cases; bins that saw the held-out patients; the epoch that was best on them.
    standardise : bool
        Bring every feature to mean 0 and spread 1 over the training tiles, scale by scale: for descriptors whose
        numbers have units of their own. A network's features are taken as they are.
    nested : bool
        Keep the epoch that was best on a fifth of the training patients, set aside; else the last epoch.
    """

    epochs: int = 20
    learning_rate: float = 1e-4
    weight_decay: float = 4e-6
    accumulate: int = 32
    bins: int = 4
    alpha: float = 0.2
    balanced: bool = True
    cap: int = 0
    width: int = 512
    heads: int = 4
    bf16: bool = False
    quirks: tuple[str, ...] = ()
    standardise: bool = False
    nested: bool = False

    def with_quirks(self, *quirks: str) -> "Recipe":
        """The same recipe with these habits of the released code."""
        return replace(self, quirks=tuple(sorted({*self.quirks, *quirks})))
