"""The border to compiled Rust, whose failures are no ordinary exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from assay.errors import UserError

__all__ = ["guarded"]


TOKENIZERS = (Exception, ValueError, TypeError, OverflowError, UnicodeEncodeError)
"""What the tokenizers package raises, each exactly of that class."""


@contextmanager
def guarded(
    what: str, remedy: str = "Download the file again.", kinds: tuple[type[Exception], ...] = TOKENIZERS
) -> Iterator[None]:
    """Tell what a compiled package refuses, or fails at, as a mistake in the file that it was given.

    tokenizers raises bare `Exception`s, `ValueError`s and `TypeError`s, and where its code panics (an index that a
    file got wrong) a `PanicException`, which derives from BaseException so that `except Exception` lets it through.
    Its class cannot be imported: it is told by its name. Use it around calls into the package alone.

    Args:
        what: the file and what is wrong with it, in words.
        remedy: what would work.
        kinds: the classes that are the package's own way to refuse; a panic is told whatever they are.

    Raises:
        UserError: the package raised; errors of our own pass unchanged.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if type(error) in kinds or _panicked(error):
            lines = str(error).strip().splitlines()
            raise UserError(f"{what} ({lines[0][:160] if lines else type(error).__name__}).", remedy) from None
        raise


def _panicked(error: BaseException) -> bool:
    return type(error).__name__ == "PanicException" and type(error).__module__ == "pyo3_runtime"
