"""Every error that a user can cause. A message names the thing, its value and what was expected.

The command line prints the message and exits with `exit_code`; the service maps classes to HTTP status codes.
Anything that is not a RelevanceError is a bug and keeps its traceback.
"""


class RelevanceError(Exception):
    """Base of all errors caused by input, configuration or environment rather than by a bug."""

    exit_code = 1


class InputError(RelevanceError):
    """Data that a user handed over (a file, a row, a request) is not as expected."""

    exit_code = 2


class ConfigError(RelevanceError):
    """A recipe, option or setting is unknown, missing or out of range."""

    exit_code = 2


class CheckpointError(RelevanceError):
    """A checkpoint folder is incomplete or does not fit its card."""

    exit_code = 3


class BundleError(RelevanceError):
    """A bundle is incomplete, altered, of an unknown format, or disagrees with its golden pairs."""

    exit_code = 3


class DivergedError(RelevanceError):
    """Training failed: a loss or a logit is NaN or infinite, or the scores have collapsed."""

    exit_code = 4


class ParityError(RelevanceError):
    """An exported model scores differently from its checkpoint by more than the limit."""

    exit_code = 4


class MachineError(RelevanceError):
    """Something on the machine is missing or taken: a package, a port, a device."""

    exit_code = 5
