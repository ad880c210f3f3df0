"""The border to pydicom: it converts values when they are touched, and damaged ones make it raise anything, from
KeyError to struct.error. Behind this border there are only typed errors."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ctload.errors import CtloadError, IngestError
from ctload.readers.members import Member


@contextmanager
def quietly() -> Iterator[None]:
    """Let pydicom parse without a word: it warns and logs of every value that bends the standard, and quotes it."""
    logger = logging.getLogger("pydicom")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = was_disabled


@contextmanager
def typed_damage(member: Member, path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes its parser raise into an error that names the file.

    Raises:
        IngestError: UNDECODABLE.
    """
    try:
        yield
    except CtloadError:
        raise
    except Exception as error:  # the parser's, see above
        # The text of the parser's error may quote a value, which may name a patient: its type must do.
        raise IngestError(
            "UNDECODABLE",
            f"file {member.name}: it cannot be parsed ({type(error).__name__}); fetch the series again",
            path=path,
        ) from error
