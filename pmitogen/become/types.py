"""Types that the files of this package share. For the type checker only: this file does not travel to targets."""

from typing import Callable, List, Optional, TypedDict, Union

Native = Callable[[str], str]  # turns text into the str type of this Python
Text = Callable[[str], str]  # turns a str of this Python into text
Secret = Union[str, bytes]  # bytes, or text that is sent as UTF-8
Prepare = Callable[[], object]

Plan = TypedDict(
    "Plan",
    {
        "method": str,
        "user": str,
        "argv": List[str],
        "form": str,
        "shell": Optional[str],
        "stdin": str,
        "programs": List[str],
        "asking": List[str],
        "secrets": List[str],
        "prompts": List[str],
        "chdir": Optional[str],
        "timeout": float,
        "via": Optional["Plan"],
    },
    total=False,
)
