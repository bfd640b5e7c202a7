"""A mask is one rule: a predicate over (query, key) positions, with an algebra. See `docs/design.md`, idea 3.

A rule is called as `rule(b, q, k, facts)` and answers whether query position `q` of row `b` may see key position
`k`. The arguments broadcast against each other and may be NumPy arrays or torch tensors: a rule uses comparison,
indexing and boolean operators alone, so that the dense mask, FlexAttention's block mask and the picture all come
from the same predicate. Positions are absolute: with a cache, queries start after the cached keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from typing_extensions import override

Array = Any  # numpy.ndarray or torch.Tensor; this room knows neither


@dataclass(frozen=True, eq=False)
class MaskFacts:
    """What a rule may look up about a batch. Each is None where no rule asks for it."""

    prefix: Array | None = None
    """[B, K] bool: the key belongs to a prefix, so every row of its document sees it."""
    document_ids: Array | None = None
    """[B, K] int: which document a key position belongs to; 0 is padding."""
    query_document_ids: Array | None = None
    """[B, Q] int: the same for queries, where they come from another sequence (cross-attention)."""
    key_mask: Array | None = None
    """[B, K] bool: the key is real (True) or padding (False)."""
    blocked: Array | None = None
    """[B, Q, K] bool: an explicit table, for masks that a published interface hands over whole."""


@dataclass(frozen=True)
class Rule:
    """Base of every rule; `a & b` sees what both see, `a | b` what either sees."""

    def __call__(self, b: Array, q: Array, k: Array, facts: MaskFacts) -> Array:
        """Whether query `q` of row `b` may see key `k`."""
        raise NotImplementedError

    def __and__(self, other: Rule) -> Rule:
        return And((*_parts(self, And), *_parts(other, And)))

    def __or__(self, other: Rule) -> Rule:
        return Or((*_parts(self, Or), *_parts(other, Or)))

    @property
    def needs(self) -> frozenset[str]:
        """Names of the facts that this rule looks up."""
        return frozenset()


@dataclass(frozen=True)
class Causal(Rule):
    """A query sees itself and what came before."""

    @override
    def __call__(self, b: Array, q: Array, k: Array, facts: MaskFacts) -> Array:
        return k <= q

    def __str__(self) -> str:
        return "causal"


@dataclass(frozen=True)
class Bidirectional(Rule):
    """A query sees every key."""

    @override
    def __call__(self, b: Array, q: Array, k: Array, facts: MaskFacts) -> Array:
        return (k >= 0) & (q >= 0)

    def __str__(self) -> str:
        return "bidirectional"


@dataclass(frozen=True)
class Window(Rule):
    """A query sees keys less than `size` positions away: itself and `size - 1` others on each side.

    Joined with `Causal` it is the sliding window of Mistral: the last `size` keys, the query's own included.
    """

    size: int

    @override
    def __call__(self, b: Array, q: Array, k: Array, facts: MaskFacts) -> Array:
        return (q - k < self.size) & (k - q < self.size)

    def __str__(self) -> str:
        return f"window({self.size})"


@dataclass(frozen=True)
class Prefix(Rule):
    """Keys of the prefix are seen by every query; which keys those are is a fact of the batch."""

    @override
    def __call__(self, b: Array, q: Array, k: Array, facts: MaskFacts) -> Array:
        assert facts.prefix is not None, "Prefix looks up facts.prefix"
        return facts.prefix[b, k] & (q >= 0)

    @property
    @override
    def needs(self) -> frozenset[str]:
        return frozenset({"prefix"})

    def __str__(self) -> str:
        return "prefix"


@dataclass(frozen=True)
class SameDocument(Rule):
    """A query sees keys of its own document only; padding (document 0) sees and is seen by nothing."""

    @override
    def __call__(self, b: Array, q: Array, k: Array, facts: MaskFacts) -> Array:
        assert facts.document_ids is not None, "SameDocument looks up facts.document_ids"
        queries = facts.document_ids if facts.query_document_ids is None else facts.query_document_ids
        keys = facts.document_ids[b, k]
        return (queries[b, q] == keys) & (keys > 0)

    @property
    @override
    def needs(self) -> frozenset[str]:
        return frozenset({"document_ids"})

    def __str__(self) -> str:
        return "same document"


@dataclass(frozen=True)
class Padding(Rule):
    """Real keys only."""

    @override
    def __call__(self, b: Array, q: Array, k: Array, facts: MaskFacts) -> Array:
        assert facts.key_mask is not None, "Padding looks up facts.key_mask"
        return facts.key_mask[b, k] & (q >= 0)

    @property
    @override
    def needs(self) -> frozenset[str]:
        return frozenset({"key_mask"})

    def __str__(self) -> str:
        return "no padding"


@dataclass(frozen=True)
class Table(Rule):
    """Whatever an explicit table `facts.blocked` leaves open."""

    @override
    def __call__(self, b: Array, q: Array, k: Array, facts: MaskFacts) -> Array:
        assert facts.blocked is not None, "Table looks up facts.blocked"
        return ~facts.blocked[b, q, k]

    @property
    @override
    def needs(self) -> frozenset[str]:
        return frozenset({"blocked"})

    def __str__(self) -> str:
        return "table"


@dataclass(frozen=True)
class And(Rule):
    """What all parts see."""

    parts: tuple[Rule, ...]

    @override
    def __call__(self, b: Array, q: Array, k: Array, facts: MaskFacts) -> Array:
        seen = self.parts[0](b, q, k, facts)
        for part in self.parts[1:]:
            seen = seen & part(b, q, k, facts)
        return seen

    @property
    @override
    def needs(self) -> frozenset[str]:
        return frozenset().union(*(part.needs for part in self.parts))

    def __str__(self) -> str:
        return " & ".join(f"({part})" if isinstance(part, Or) else str(part) for part in self.parts)


@dataclass(frozen=True)
class Or(Rule):
    """What any part sees."""

    parts: tuple[Rule, ...]

    @override
    def __call__(self, b: Array, q: Array, k: Array, facts: MaskFacts) -> Array:
        seen = self.parts[0](b, q, k, facts)
        for part in self.parts[1:]:
            seen = seen | part(b, q, k, facts)
        return seen

    @property
    @override
    def needs(self) -> frozenset[str]:
        return frozenset().union(*(part.needs for part in self.parts))

    def __str__(self) -> str:
        return " | ".join(str(part) for part in self.parts)


@dataclass(frozen=True, eq=False)
class Mask:
    """A rule with the facts of one batch: all that decides visibility."""

    rule: Rule
    facts: MaskFacts = field(default_factory=MaskFacts)


def _parts(rule: Rule, joint: type[And] | type[Or]) -> tuple[Rule, ...]:
    return rule.parts if isinstance(rule, joint) else (rule,)
