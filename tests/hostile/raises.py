"""A function for a target, whose failure is a text that it was given."""


def fail(text: str) -> None:
    raise ValueError(text)
