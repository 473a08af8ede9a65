#!/usr/bin/env python3
"""Checks a built site: ``links.py DIRECTORY``

Every link and every file that a page loads must exist in the site, with the part of the page that it names. Nothing may be
loaded from a network, so that the site works offline. Links to other sites are not followed. Prints one line for each
problem. Exit code: 0, 1 (problems), 2 (wrong usage).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("img", "src"), ("source", "src"), ("iframe", "src"), ("link", "href")}
NOT_LOADED = {"canonical", "prev", "next", "alternate", "edit"}  # kinds of <link> that only name a page
_CSS = re.compile(r"url\(\s*['\"]?(?!data:)([^'\")]+)|@import\s+['\"]([^'\"]+)")


class Content(HTMLParser):
    """What one page links to, what it loads, and the names of its parts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.names |= {value for name in ("id", "name") if (value := given.get(name))}
        for name, value in attrs:
            if value is None or value.startswith(("data:", "mailto:", "javascript:")):
                continue
            if (tag, name) in LOADED and not NOT_LOADED & set((given.get("rel") or "").split()):
                self.loaded.append(value)
            elif (tag, name) == ("a", "href"):
                self.links.append(value)


def problems(site: Path) -> Iterator[str]:
    """Yield a line for each link that leads nowhere, and for each file that would come from a network."""
    site = site.resolve()
    published = re.search(r"<loc>https?://[^/]+(/.*?)index\.html</loc>", (site / "sitemap.xml").read_text(encoding="utf-8"))
    root = published[1] if published else "/"  # where links of the error page start, which may be shown anywhere
    pages = {path: Content(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        where = path.relative_to(site)
        for target in page.loaded:
            if urlsplit(target).netloc:
                yield f"{where}: loads {target} from a network"
            else:
                yield from (f"{where}: {each}" for each in _missing(site, root, path, target, pages))
        for target in page.links:
            if not urlsplit(target).scheme and not urlsplit(target).netloc:
                yield from (f"{where}: {each}" for each in _missing(site, root, path, target, pages))
    for path in sorted(site.rglob("*.css")):
        for found in _CSS.findall(path.read_text(encoding="utf-8")):
            target = found[0] or found[1]
            if urlsplit(target).netloc:
                yield f"{path.relative_to(site)}: loads {target} from a network"


def _missing(site: Path, root: str, page: Path, target: str, pages: dict[Path, Content]) -> Iterator[str]:
    parts = urlsplit(target)
    name = unquote(parts.path)
    if name.startswith("/"):
        file = (site / name.removeprefix(root).lstrip("/")).resolve()
    else:
        file = (page.parent / name).resolve() if name else page
    if file.is_dir():
        file /= "index.html"
    if not file.is_file():
        yield f"{target}: no such file"
    elif parts.fragment and file in pages and unquote(parts.fragment) not in pages[file].names:
        yield f"{target}: the page has no such part"


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: links.py DIRECTORY", file=sys.stderr)
        return 2
    found = list(problems(Path(arguments[0])))
    for line in found:
        print(f"links: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
