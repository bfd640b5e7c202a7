"""What a run's evaluations measure on held-out text: continuation or, of an encoder, masked tokens."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from assay.data.loader import Loader
from assay.evaluation.continuation import Continuation, continuation
from assay.evaluation.masked import Masked, masked
from assay.nn.transformer import Transformer
from assay.spec.axes import Family
from assay.spec.study import RunSpec
from assay.training.setup import curve_windows, masked_rows
from assay.training.text import Text

if TYPE_CHECKING:
    from assay.training.parallel.team import Team

__all__ = ["HeldOut"]


class HeldOut:
    """The held-out text of a run, the same at every evaluation.

    Attributes:
        measure_name: of the one number, lower is better: `bits_per_byte` or `masked_nats_per_token`.
        windows: what continuation is measured on; none for an encoder.
    """

    def __init__(self, run: RunSpec, text: Text, loader: Loader) -> None:
        """Args: run: with its vocabulary set; text: the data; loader: of the training batches.

        Raises:
            UserError: there is no held-out text.
        """
        self.encoder = run.model.family is Family.encoder
        self.measure_name = "masked_nats_per_token" if self.encoder else "bits_per_byte"
        self.windows = [] if self.encoder else curve_windows(text)
        self.hidden = masked_rows(run, text, loader) if self.encoder else []
        self.vocabulary = text.tokenizer.vocabulary

    def measure(
        self, model: Transformer, precision: AbstractContextManager[Any], team: Team | None = None
    ) -> Continuation | Masked:
        """Measure a model; nothing is learned.

        Args:
            model: any family that the run trains.
            precision: an autocast context.
            team: the ranks that hold the model and share the work; all get the result.
        """
        if team is not None:
            from assay.training.parallel import heldout

            if self.encoder:
                return heldout.masked_together(team, self.hidden, precision)
            return heldout.continuation_together(team, self.windows, self.vocabulary, precision)
        if self.encoder:
            return masked(model, self.hidden, precision=precision)
        return continuation(model, self.windows, self.vocabulary, precision=precision)
