"""Settings of the run that a hub serves: log file, log level and timeline.

They are sent by the process that starts the hub, or that adopts a hub on standby.
"""

from __future__ import annotations

import dataclasses
import os

from pmitogen.errors import UsageError
from pmitogen.util.caller import CallerEnvironment


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class RunSettings:
    """Settings of one run; paths are absolute.

    :param log: how much is logged, a level of PMITOGEN_LOG; empty: see pmitogen/logging.py.
    :param log_file: PMITOGEN_LOG_FILE; empty: the run's stderr.
    :param trace: PMITOGEN_TRACE; empty: no timeline is written.
    :param ansible: the version of ansible-core; empty: none is at work.
    """

    log: str = ""
    log_file: str = ""
    trace: str = ""
    ansible: str = ""

    @classmethod
    def of(cls, caller: CallerEnvironment, log: str | None, ansible: str) -> RunSettings:
        """Return the settings of a run. *log*: the level if PMITOGEN_LOG is not set."""
        environ = caller.environ
        return cls(
            environ.get("PMITOGEN_LOG") or log or "",
            caller.absolute(environ.get("PMITOGEN_LOG_FILE", "")),
            caller.absolute(environ.get("PMITOGEN_TRACE", "")),
            ansible,
        )

    @classmethod
    def from_message(cls, message: object) -> RunSettings:
        """Return the settings in a result of :meth:`message`. Raises UsageError if they are invalid."""
        if isinstance(message, dict) and all(isinstance(message.get(field.name), str) for field in dataclasses.fields(cls)):
            settings = cls(**{field.name: message[field.name] for field in dataclasses.fields(cls)})
            if all(not path or os.path.isabs(path) for path in (settings.log_file, settings.trace)):
                return settings
        raise UsageError("invalid settings of a run")

    def message(self) -> dict[str, str]:
        """Return the settings as a dict for JSON."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def begin(self, run_pid: int) -> None:
        """Log as the run wants. Raises UsageError: an unknown level, a file that cannot be written."""
        from pmitogen import logging

        logging.setup("hub", environ={"PMITOGEN_LOG": self.log, "PMITOGEN_LOG_FILE": self.log_file}, stderr_from_pid=run_pid)

    @staticmethod
    def end() -> None:
        """Close the run's log and its stderr, and forget the secrets to redact."""
        from pmitogen import logging

        logging.setup("hub", environ={})
        logging.forget_secrets()
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, 2)
        os.close(null)
