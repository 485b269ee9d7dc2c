"""The one family of errors that zbench raises on purpose.

A message says in one or two lines what is wrong and what to do next. The command line prints it without a
traceback and exits with code 2; `--debug` shows the traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ZbenchError(Exception):
    """Base of every expected failure; its text is shown to the user as it stands."""


class UnknownNameError(ZbenchError):
    """A method, concept, model, field ... that nobody knows."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
        """Builds the message, naming close matches first and all known names after them.

        Args:
            kind: What was looked up, in the singular ("method", "concept").
            name: The name as the user gave it.
            known: Every name that would have been found.
        """
        names = sorted(known)
        by_lower = {candidate.lower(): candidate for candidate in names}
        matches = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)
        close = [by_lower[match] for match in matches]
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        shown = ", ".join(names) if names else "none"
        return cls(f"Unknown {kind} {name!r}.{hint} Known: {shown}.")


class ConfigurationError(ZbenchError):
    """A value that cannot be used: wrong type, out of range, contradictory."""


class StoreError(ZbenchError):
    """A folder that zbench cannot write to, or must not trust."""


class WeightsError(ZbenchError):
    """Weights that are missing, truncated or altered."""


class OutOfMemoryError(ZbenchError):
    """Memory ran out with the smallest batch that there is; the cell fails, and the other cells go on."""


class MissingExtraError(ZbenchError):
    """An optional dependency that is not installed."""

    @classmethod
    def of(cls, package: str, extra: str) -> MissingExtraError:
        """Names the missing package and the exact command that installs it."""
        return cls(f"The package {package!r} is needed and not installed: pip install 'zbench[{extra}]'")


class TrainingDivergedError(ZbenchError):
    """A training loss became NaN or infinite; the erasure is not kept."""


class MethodError(ZbenchError):
    """A method did what no method may do; its cell fails, and the other cells go on."""


class ModelChangedError(MethodError):
    """A method left the model other than it found it; the model is loaded again for the next cell."""


class AttackError(ZbenchError):
    """An attack did what no attack may do; it is recorded as failed, and the other attacks go on."""
