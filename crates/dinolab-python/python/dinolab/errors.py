"""What can go wrong. Messages are those of the command line, with settings named as arguments."""


class Error(Exception):
    """Anything that goes wrong in dinolab, in one line: what, where, and what to do."""


class SettingError(Error, ValueError):
    """An argument is unknown, out of its range, or contradicts another one."""


class ImageError(Error, ValueError):
    """An image, or a set of images, cannot be used."""


class WeightsError(Error, ValueError):
    """Weights cannot be read, or do not fit."""


class RunError(Error):
    """A run cannot begin, be resumed, or go on."""


class DivergedError(Error, ArithmeticError):
    """The loss is NaN or infinite. The last sound checkpoint of a run is intact."""


class UnreachableError(Error, ConnectionError):
    """Images at a remote location could not be fetched. The same call may work later."""
