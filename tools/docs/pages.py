"""Hook of MkDocs: adds the pages that are made from other files, and adapts links to files outside docs/.

Made are the Python API (from the public names), the command reference (from the parsers), and copies of pages that the
repository has elsewhere: CHANGELOG.md, CONTRIBUTING.md, SECURITY.md and PROTOCOL.md.
"""

from __future__ import annotations

import importlib.metadata
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import pmitogen
from pmitogen import aio, errors, executors
from pmitogen.cli.completion import Command, commands
from pmitogen.cli.manual import ENVIRONMENT, EXIT, arguments

REPOSITORY = Path(__file__).resolve().parent.parent.parent

# Page of the site -> the file that it shows.
COPIES = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security-policy.md": "SECURITY.md",
    "protocol.md": "pmitogen/protocol/PROTOCOL.md",
}
ERRORS = tuple(name for name in pmitogen.__all__ if hasattr(errors, name))
# Page -> title, module, names.
API = {
    "connections": (
        "Connections",
        "pmitogen.api",
        ("connect", "Hub", "ConnectOptions", "Jump", "Ask", "ConnectArguments", "JumpCredentials"),
    ),
    "host": ("Hosts and files", "pmitogen.api", ("Host", "Forwarding", "DirEntry", "Changes")),
    "results": ("Processes and results", "pmitogen.api", ("Process", "Terminal", "Completed", "Outcome")),
    "errors": ("Errors", "pmitogen.errors", ERRORS),
    "executors": ("Several processes", "pmitogen.executors", tuple(executors.__all__)),
    "testing": ("Testing", "pmitogen.testing", ("ssh_server", "server.ScriptedServer")),
    "aio": ("asyncio", "pmitogen.aio", ("connect", "Hub", "Host", "Process", "InputStream", "OutputStream")),
}
# What the library makes, never its user: without the parameters of the class.
MADE = {"Host", "Process", "Forwarding", "DirEntry", "Changes", "Completed", "Outcome", "InputStream", "OutputStream", *ERRORS}
USES = {
    "testing": 'A pytest plugin: the root conftest.py says `pytest_plugins = ["pmitogen.testing"]`. The class is in'
    " `pmitogen.testing.server`."
}
_LINK = re.compile(r"(\]\()((?!https?:|mailto:|#)[^)#\s]+)((?:#[^)\s]*)?\))")


def on_config(config: MkDocsConfig) -> None:
    """Take the addresses from the package's metadata, the one place that has them."""
    urls = dict(line.split(", ", 1) for line in importlib.metadata.metadata("pmitogen").get_all("Project-URL") or ())
    config.site_url, config.repo_url, config.repo_name = urls["Documentation"], urls["Source"], "Source"
    listed = set(_listed(config.nav))
    more = [path.name for path in sorted((REPOSITORY / "docs").glob("*.md")) if path.name not in listed]
    config.nav = [*(config.nav or []), *([{"More": more}] if more else [])]  # a page without an entry of its own is still found


def _listed(nav: Any) -> Iterator[str]:
    """Yield the pages in a menu."""
    if isinstance(nav, str):
        yield nav
    for item in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from _listed(item)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages that are made."""
    for page, source in COPIES.items():
        text = (REPOSITORY / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=relink(text, posixpath.dirname(source), "")))
    for page, text in api_pages():
        files.append(File.generated(config, f"api/{page}.md", content=text))
    files.append(File.generated(config, "command-reference.md", content="\n".join(command_reference())))


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Adapt links from a page of docs/ to files outside it."""
    if page.file.generated_by:
        return markdown
    return relink(markdown, "docs", posixpath.dirname(page.file.src_uri))


def on_page_content(html: str, **_: Any) -> str:
    """Mark names and options, which a narrow table would break at their hyphens; see site.css."""
    return re.sub(r"<code>([^<\n]{1,20}</code>)", r'<code class="short">\1', html)


def relink(text: str, directory: str, page_directory: str) -> str:
    """Return *text*, a file of the repository's *directory*, with the links that a page in *page_folder* of the site needs.

    Raises KeyError for a link to a file that the site does not show.
    """
    shown = {source: page for page, source in COPIES.items()}

    def new(found: re.Match[str]) -> str:
        start, target, end = found.groups()
        file = posixpath.normpath(posixpath.join(directory, page_directory if directory == "docs" else "", target))
        if file.startswith("docs/"):
            page = file[len("docs/") :]
        elif file in shown:
            page = shown[file]
        else:
            raise KeyError(f"{directory}: the site has no page for the link {target}")
        return start + posixpath.relpath(page, page_directory or ".") + end

    return _LINK.sub(new, text)


def api_pages() -> Iterator[tuple[str, str]]:
    """Yield name and text of each page of the Python API. Raises ValueError if a public name is on none of them."""
    elsewhere = ("pmitogen.aio", "pmitogen.executors", "pmitogen.testing")
    listed = {name for _, module, names in API.values() if module not in elsewhere for name in names}
    asyncio = {*API["aio"][2], *API["results"][2]}  # the rest of its names is those of the library
    missing = {*pmitogen.__all__} - listed - {"__version__"} | {*aio.__all__} - asyncio
    if missing:
        raise ValueError(f"API in {Path(__file__).name} lacks {', '.join(sorted(missing))}")
    rows = []
    for page, (title, module, names) in API.items():
        shown = module if module in elsewhere else "pmitogen"
        rows += [f"| [{title}]({page}.md) | {', '.join(f'`{shown}.{name}`' for name in names)} |"]
        lead = USES.get(page, f"Import these names from `{shown}`.")
        yield page, "\n\n".join([f"# {title}", lead, *(_documented(module, name) for name in names)])
    head = "# Python API\n\nEvery public name, from its docstring. [Python programs](../library.md) has the examples.\n\n"
    yield "index", head + "| page | names |\n| --- | --- |\n" + "\n".join(rows) + "\n"


def _documented(module: str, name: str) -> str:
    options = "\n    options:\n      merge_init_into_class: false" if name in MADE else ""
    return f"::: {module}.{name}{options}"


def command_reference() -> Iterator[str]:
    """Yield the lines of the page of commands."""
    yield "# Commands\n\nThe commands and their options. `pmitogen manual` prints the same for `man`.\n"
    for command in commands():
        yield from _command(command)
    yield f"## Exit status\n\n{EXIT}\n\n## Environment\n\n| variable | effect |\n| --- | --- |"
    yield from (f"| `{name}` | {text} |" for name, text in ENVIRONMENT)


def _command(command: Command) -> Iterator[str]:
    text, _, usage = command.help.partition(f": pmitogen {command.name}")
    yield f"## pmitogen {command.name}\n\n{text[0].upper() + text[1:]}.\n"
    if command.usage:
        yield f"```\n{command.usage.rstrip()}\n```\n"
    elif usage:
        yield f"```\npmitogen {command.name}{usage}\n```\n"
    rows = [f"| `{shown}` | {text} |" for shown, text in arguments(command)]
    if rows:
        yield "\n".join(["| argument | effect |", "| --- | --- |", *(row.replace("||", "\\|\\|") for row in rows)]) + "\n"
