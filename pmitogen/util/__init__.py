"""Helpers for all packages. Of pmitogen they import only ``pmitogen.errors``."""
