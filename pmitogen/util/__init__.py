"""Helpers for all packages. They import no other package of pmitogen."""
