"""Results of calls of the library."""

from __future__ import annotations

import dataclasses
from typing import Generic, TypeVar

Text = TypeVar("Text", bytes, str)


@dataclasses.dataclass(frozen=True)
class Completed(Generic[Text]):
    """The result of a command. ``stdout`` and ``stderr`` are bytes, or str for a call with ``text=True`` or an ``encoding``."""

    rc: int
    stdout: Text
    stderr: Text

    @property
    def returncode(self) -> int:
        """The exit status, 128 + n for signal n; the same as ``rc``."""
        return self.rc

    @property
    def ok(self) -> bool:
        """True if the exit status is 0."""
        return self.rc == 0
