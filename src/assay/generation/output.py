"""What a `Model` gives back."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Output:
    """Results of one call; entries that the family does not have are None."""

    logits: Float[Tensor, "b s vocabulary"] | None = None
    """Of the output stack (an encoder-decoder's decoder); None without a head."""
    last_hidden_state: Float[Tensor, "b s width"] | None = None
    """After the output stack's final norm."""
    hidden_states: tuple[Tensor, ...] | None = None
    """One stack: embeddings, then every layer's output, the last after the final norm (but see
    `Model.states_before_norm`)."""
    encoder_last_hidden_state: Tensor | None = None
    """Encoder-decoder: after the encoder's final norm."""
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    """Encoder-decoder: as `hidden_states`, of the encoder."""
    decoder_hidden_states: tuple[Tensor, ...] | None = None
    """Encoder-decoder: as `hidden_states`, of the decoder."""
    seq_relationship_logits: Float[Tensor, "b 2"] | None = None
    """BERT's next-sentence logits."""
