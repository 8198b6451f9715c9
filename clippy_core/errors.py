"""The errors a user can meet.

Each kind says what failed, what arrived and what is accepted, in one line. The command line maps kinds to
exit codes in one place (``clippy_cli.main``); the core never exits and never prints.
"""

HARMLESS = frozenset(" \u00a0\u202f\u3000\u200c\u200d")
"""Spaces of file names, and what joins letters and emoji: not printable to Python, and yet what people typed."""


def visible(text: str) -> str:
    """Text with line breaks and other control characters escaped: a file may be called anything."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in HARMLESS else ascii(character)[1:-1] for character in text
    )


class ClippyError(Exception):
    """Base of every error that is about the user's input or surroundings rather than a mistake of ours."""


class UsageError(ClippyError):
    """An argument, option or label set that cannot be understood or does not fit the others."""


class ConfigError(UsageError):
    """A configuration field whose value is not accepted; the message names the field."""


class DataError(ClippyError):
    """An image, data set or checkpoint that cannot be used: missing, damaged, or not what it claims to be."""


class ImageError(DataError):
    """One image that cannot be read."""


class CheckpointError(DataError):
    """A checkpoint or model directory that cannot be loaded as it stands."""


class DeviceError(ClippyError):
    """A device, a kernel implementation or an optional part of the installation is missing; how to get it is said."""


class PartialError(ClippyError):
    """A run that reached its end, but some of several inputs failed or a check fell short."""


class PluginError(ClippyError):
    """A plug-in that cannot be used: two packages claim one name, or its object cannot be imported."""
