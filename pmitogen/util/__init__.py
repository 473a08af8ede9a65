"""Small helpers without a subject of their own. Imports nothing else of pmitogen."""
