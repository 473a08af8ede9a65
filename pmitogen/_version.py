"""The version of pmitogen: the one place that holds it. Packaging reads this file without importing it."""

__version__ = "0.1.0"
