"""The picture of a key's fingerprint. Source: fingerprint_randomart() in sshkey.c of OpenSSH ("the drunken bishop")."""

from __future__ import annotations

WIDTH, HEIGHT = 17, 9
_SYMBOLS = " .o+=*BOX@%&#/^SE"
_START, _END = _SYMBOLS.index("S"), _SYMBOLS.index("E")


def draw(digest: bytes, title: str, hash_name: str) -> str:
    """Return the picture. *title*: the key's type and size. *hash_name*: the hash function of *digest*."""
    field = [[0] * WIDTH for _ in range(HEIGHT)]
    x, y = WIDTH // 2, HEIGHT // 2
    for byte in digest:
        for _ in range(4):
            x = min(max(x + (1 if byte & 1 else -1), 0), WIDTH - 1)
            y = min(max(y + (1 if byte & 2 else -1), 0), HEIGHT - 1)
            field[y][x] = min(field[y][x] + 1, _START - 1)
            byte >>= 2
    field[HEIGHT // 2][WIDTH // 2] = _START
    field[y][x] = _END
    lines = [_border(f"[{title}]")]
    lines += ["|" + "".join(_SYMBOLS[count] for count in row) + "|" for row in field]
    lines.append(_border(f"[{hash_name}]"))
    return "\n".join(lines)


def _border(text: str) -> str:
    left = (WIDTH - len(text)) // 2
    return f"+{'-' * left}{text}{'-' * (WIDTH - left - len(text))}+"
