"""lm-evaluation-harness (Gao et al. 2021) on assay's models: its tasks run on every family that writes.

    from assay.evaluation.harness import harness_model
    lm_eval.simple_evaluate(model=harness_model(assay.load("my_model")), tasks=["arc_easy"])

or `assay eval MODEL --tasks arc_easy`. The context is what a family reads: from the left in a causal decoder, whole
in a prefix decoder, through the encoder in an encoder-decoder. Chat templates are the tokenizer's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from assay.errors import UserError
from assay.evaluation.pairs import Codec, rolling, score
from assay.evaluation.writing import refuse_unwritten, write
from assay.generation.model import Model

if TYPE_CHECKING:
    from lm_eval.api.model import LM

__all__ = ["available", "harness_model", "run_harness"]


def available() -> bool:
    """Whether lm-evaluation-harness is installed."""
    from importlib.util import find_spec

    return find_spec("lm_eval") is not None


def _need() -> None:
    if not available():
        raise UserError(
            "lm-evaluation-harness is not installed.",
            'Install it: pip install "assay[eval]". Tasks that need nothing: assay eval --help.',
        )


def harness_model(model: Model, *, batch_size: int = 16, length: int | None = None) -> LM:
    """The model as lm-evaluation-harness wants one: its `TemplateLM`.

    Args:
        model: with a tokenizer.
        batch_size: requests at a time.
        length: tokens of a window; None: the model's context.

    Raises:
        UserError: the package is missing, or the family does not write.
    """
    _need()
    from lm_eval.api.model import TemplateLM

    codec = Codec(model, length=length)
    refuse_unwritten(codec)

    class AssayLM(TemplateLM):
        """An assay model; see the module."""

        backend = "seq2seq" if codec.two else "causal"

        def __init__(self) -> None:
            super().__init__()
            self.codec, self.batch_size = codec, batch_size

        @property
        def eot_token_id(self) -> int:
            """What stands for an empty context."""
            return self.codec.begin

        @property
        def max_length(self) -> int:
            """Tokens of a window."""
            return self.codec.length

        @property
        def tokenizer_name(self) -> str:
            """For caches of prepared requests."""
            return str(getattr(model.tokenizer, "hash", "") or getattr(model.tokenizer, "source", ""))

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
            """Ids; with what the model wants before a text unless told otherwise."""
            if not string or add_special_tokens is False:
                return self.codec.encode(string) if string else []
            return self.codec.prompt(string)

        def _loglikelihood_tokens(
            self, requests: Sequence[Any], disable_tqdm: bool = False, **kwargs: Any
        ) -> list[tuple[float, bool]]:
            pairs = []
            for (_, said), context, continuation in requests:
                # A continuation beyond the window is scored by its end, as the harness does it.
                kept = continuation[-self.codec.length :]
                pairs.append(self.codec.fit(context or [self.codec.begin], kept, repr(said[:40])))
            found = score(self.codec, pairs, batch_size=self.batch_size)
            return [(-float(n), bool(g)) for n, g in zip(found.nats, found.greedy, strict=True)]

        def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
            """Log-likelihoods of whole texts, each token predicted once."""
            pairs, counts = [], []
            for request in requests:
                parts = rolling(self.codec, self.codec.encode(request.args[0]))
                counts.append(len(parts))
                pairs += parts
            found = score(self.codec, pairs, batch_size=self.batch_size).nats.tolist()
            sums = []
            for count in counts:
                sums.append(-float(sum(found[:count])))
                found = found[count:]
            return sums

        def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
            """Texts written behind contexts, up to a stop text."""
            texts = [""] * len(requests)
            for key, numbers in _by_settings(requests).items():
                settings = dict(key)
                stop = settings.pop("until", ())
                most = int(settings.pop("max_gen_toks", 256))
                room = self.codec.length if self.codec.two else max(self.codec.length - most, 1)
                prompts = [self.codec.prompt(requests[i].args[0])[-room:] for i in numbers]
                said = write(
                    self.codec, prompts, max_new_tokens=most, stop=stop, batch_size=self.batch_size,
                    **_sampling(settings),
                )  # fmt: skip
                for i, text in zip(numbers, said, strict=True):
                    texts[i] = text
            return texts

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            """A conversation as the tokenizer's template writes it."""
            from assay.generation.text import chat_text

            return chat_text(model.tokenizer, chat_history, add_generation_prompt=add_generation_prompt)

    return AssayLM()


def _by_settings(requests: Sequence[Any]) -> dict[tuple[tuple[str, Any], ...], list[int]]:
    """Requests of equal settings together, so that they can share a batch."""
    groups: dict[tuple[tuple[str, Any], ...], list[int]] = {}
    for number, request in enumerate(requests):
        settings = dict(request.args[1])
        until = settings.pop("until", ())
        settings["until"] = (until,) if isinstance(until, str) else tuple(until or ())
        groups.setdefault(tuple(sorted(settings.items())), []).append(number)
    return groups


def _sampling(settings: dict[str, Any]) -> dict[str, Any]:
    """The harness's settings of generation as `Model.generate` takes them; a temperature of 0 means greedy."""
    known = ("do_sample", "temperature", "top_k", "top_p", "repetition_penalty", "num_beams")
    how = {name: settings[name] for name in known if settings.get(name) is not None}
    if how.get("temperature", 1.0) == 0:
        how |= {"do_sample": False, "temperature": 1.0}
    return how


def run_harness(
    model: Model,
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    shots: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> dict[str, Any]:
    """Run tasks of lm-evaluation-harness; "results", "n-samples", "versions" and "configs" of what it returns.

    Args:
        model: any family that writes.
        tasks: names that the harness knows; most download their data.
        limit: items of a task at most.
        shots: examples before each question.
        batch_size: requests at a time.
        seed: of the choice of examples.

    Raises:
        UserError: the package is missing, a task is not known, or its data cannot be had.
    """
    _need()
    import lm_eval
    from lm_eval.tasks import TaskManager

    manager = TaskManager()
    unknown = [task for task in tasks if task not in manager.all_tasks]
    if unknown:
        from assay.errors import did_you_mean
        from assay.evaluation.generated import GENERATED

        known = [*GENERATED, "continuation", *manager.all_tasks]
        raise UserError(f"task {unknown[0]!r} is not known.", did_you_mean(unknown[0], known, at_most=6))
    try:
        found = lm_eval.simple_evaluate(
            model=harness_model(model, batch_size=batch_size), tasks=list(tasks), limit=limit, num_fewshot=shots,
            bootstrap_iters=0, task_manager=manager, random_seed=seed, numpy_random_seed=seed, torch_random_seed=seed,
            fewshot_random_seed=seed, log_samples=False,
        )  # fmt: skip
    except (OSError, ConnectionError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"tasks {', '.join(tasks)}: their data cannot be had ({line}).", "Go online once.") from None
    assert found is not None
    return {name: found.get(name) for name in ("results", "n-samples", "versions", "configs")}
