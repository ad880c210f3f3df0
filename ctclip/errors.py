"""Every error that ctclip raises on purpose. Each message names the value, the limit and the way out.

They derive from ctload's base error, so one `except CtloadError` around a program catches both libraries, and they
carry `study` and `path` in the same way.
"""

from ctload.errors import CtloadError


class CtclipError(CtloadError):
    """Base of all errors of this package; see ctload.errors.CtloadError for the arguments."""


class CohortError(CtclipError):
    """A cohort's tables are not what their format says: a column, an id, a label, a split."""


class ReportError(CtclipError):
    """A report or a section cannot be used as asked: empty text, too few sentences decided by rules."""


class PromptError(CtclipError):
    """A prompt file has no known form, or does not fit the findings asked for."""


class ConfigError(CtclipError):
    """A configuration contradicts itself or the machine it runs on."""


class CheckpointError(CtclipError):
    """A checkpoint cannot be read, or belongs to another model or run."""


class EvaluationError(CtclipError):
    """Embeddings, labels and ids do not fit together, or hold values no score can be made from."""


class DivergedError(CtclipError):
    """Training produced a loss or a gradient that is not finite."""


class StudyError(CtclipError):
    """A study's grid cannot be run or compared as asked: a ratio, a fraction, a name, a cell."""
