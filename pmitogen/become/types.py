"""Types that the files of this package share. For the type checker only: this file does not travel to targets."""

from typing import Callable, List, Optional, Tuple, TypedDict, Union

Native = Callable[[str], str]  # turns text into the str type of this Python
Text = Callable[[str], str]  # turns a str of this Python into text
Secret = Union[str, bytes]  # bytes, or text that is sent as UTF-8
Prepare = Callable[[], object]
SecretId = Tuple[int, str]  # the number of the step that asks, and the kind: "password" or "otp"

# An escalation as flags/become/plan.py builds it, the hub sends it and this package runs it. JSON can encode it.
Plan = TypedDict(
    "Plan",
    {
        "method": str,
        "user": str,
        "argv": List[str],
        "form": str,
        "shell": Optional[str],
        "stdin": str,  # "tty" or "pipe"
        "programs": List[str],  # their kinds
        "asking": List[str],  # the kinds of programs that may ask for a password
        "secrets": List[str],  # the kinds that the hub has
        "prompts": List[str],
        "chdir": Optional[str],
        "timeout": float,  # seconds
        "via": Optional["Plan"],  # enters the account that this one starts in
    },
)
