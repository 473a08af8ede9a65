"""Types that the files of this package share. For the type checker only: this file does not travel to targets."""

from typing import Callable, Tuple, Union

from pmitogen.protocol.escalation_plan import EscalationPlan

__all__ = ["EscalationPlan", "Native", "Prepare", "Secret", "SecretId", "Text"]

Native = Callable[[str], str]  # turns text into the str type of this Python
Text = Callable[[str], str]  # turns a str of this Python into text
Secret = Union[str, bytes]  # bytes, or text that is sent as UTF-8
Prepare = Callable[[], object]
SecretId = Tuple[int, str]  # the number of the step that asks, and the kind: "password" or "otp"
