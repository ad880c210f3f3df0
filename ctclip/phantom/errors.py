"""The error of the phantom: a knob that no cohort can be made with."""

from ctclip.errors import CohortError


class KnobError(CohortError):
    """A knob of the phantom is outside its range or contradicts another one."""
