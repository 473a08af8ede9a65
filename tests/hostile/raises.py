"""A function for a target that raises an exception with a given text."""


def fail(text: str) -> None:
    raise ValueError(text)
