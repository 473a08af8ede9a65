"""Makes ``option_table.py`` (and the users' page of options) of the plugin's DOCUMENTATION.

``python -m pmitogen.ansible.generate_options`` writes the table, ``--check`` only says whether it is up to date,
``--markdown`` prints the page. Needs PyYAML, which Ansible brings; never imported in a run.
"""

from __future__ import annotations

import argparse
import ast
import pathlib
import pprint
import re
import sys
from typing import Any

HERE = pathlib.Path(__file__).parent
PLUGIN = HERE / "plugins" / "connection" / "pmitogen.py"
TABLE = HERE / "option_table.py"

TABLE_HEAD = '''"""The options of the connection plugin, ready-made: see :mod:`pmitogen.ansible.options`.

Generated from the plugin's DOCUMENTATION by ``python -m pmitogen.ansible.generate_options``; edit that text, not this one.
"""

from __future__ import annotations

from typing import Any

# fmt: off
OPTIONS: dict[str, dict[str, Any]] = \\
'''

PAGE_HEAD = """# Options of the connection plugin

<!-- Generated: python -m pmitogen.ansible.generate_options --markdown -->

Every option of Ansible's own `ssh` connection plugin is taken from the same places: inventory variables, environment variables,
`ansible.cfg`, command line and play keywords. Where one option is given in several of them, Ansible's order decides: variable,
keyword, command line, environment, `ansible.cfg`, default; of several variables for one option, the last named below wins.
Values may be templates wherever Ansible allows them.

How the ssh arguments themselves are understood is shown by `pmitogen explain ssh -- ARGS... HOST`.
"""

EFFECTLESS = "Accepted without effect"


def documentation(path: pathlib.Path = PLUGIN) -> dict[str, Any]:
    """The parsed DOCUMENTATION of the plugin file, which is read and not imported."""
    import yaml  # type: ignore[import-untyped]

    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "DOCUMENTATION":
            parsed: dict[str, Any] = yaml.safe_load(ast.literal_eval(node.value))
            return parsed
    raise SystemExit(f"{path}: no DOCUMENTATION")


def render_table(options: dict[str, Any]) -> str:
    """The text of ``option_table.py``."""
    return TABLE_HEAD + pprint.pformat(options, width=125, sort_dicts=False) + "\n"


def _markdown(text: str) -> str:
    """Ansible's markup as Markdown: ``C(x)``, ``V(x)``, ``O(x)`` and ``E(x)`` are all code."""
    return re.sub(r"\b[CVOE]\(((?:[^()]|\([^()]*\))*)\)", r"`\1`", text)


def _description(option: dict[str, Any]) -> str:
    lines = option["description"]
    return _markdown(" ".join([lines] if isinstance(lines, str) else lines))


def _sources(option: dict[str, Any]) -> list[str]:
    """One bullet per kind of place the option is read from."""
    kinds = {
        "variables": [entry["name"] for entry in option.get("vars", ())],
        "keyword": [entry["name"] for entry in option.get("keyword", ())],
        "command line": [entry.get("option") or "--" + entry["name"].replace("_", "-") for entry in option.get("cli", ())],
        "environment": [entry["name"] for entry in option.get("env", ())],
        "ansible.cfg": [f"[{entry['section']}] {entry['key']}" for entry in option.get("ini", ())],
    }
    return [f"- {kind}: " + ", ".join(f"`{name}`" for name in names) for kind, names in kinds.items() if names]


def _section(name: str, option: dict[str, Any]) -> str:
    facts = [f"type `{option.get('type', 'string')}`"]
    if option.get("default") not in (None, ""):
        facts.append(f"default `{option['default']}`")
    if "choices" in option:
        facts.append("one of " + ", ".join(f"`{choice}`" for choice in option["choices"]))
    return "\n".join([f"### {name}", "", _description(option), "", "- " + ", ".join(facts), *_sources(option), ""])


def render_page(options: dict[str, Any]) -> str:
    """The users' page: options that do something first, then those that are only accepted."""
    effective = {name: option for name, option in options.items() if EFFECTLESS not in _description(option)}
    pages = [PAGE_HEAD, "## Options that do something\n"]
    pages += [_section(name, option) for name, option in effective.items()]
    pages += ["## Options that are accepted without effect\n"]
    pages += [_section(name, option) for name, option in options.items() if name not in effective]
    return "\n".join(pages)


def main(argv: list[str] | None = None) -> int:
    """Write the table, check it, or print the page. 1: ``--check`` found it out of date."""
    parser = argparse.ArgumentParser(prog="python -m pmitogen.ansible.generate_options", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the table is up to date")
    parser.add_argument("--markdown", action="store_true", help="print the users' page")
    args = parser.parse_args(argv)
    options = documentation()["options"]
    if args.markdown:
        sys.stdout.write(render_page(options))
    elif not args.check:
        TABLE.write_text(render_table(options), encoding="utf-8")
    elif TABLE.read_text(encoding="utf-8") != render_table(options):
        sys.stderr.write(f"{TABLE}: out of date: run python -m pmitogen.ansible.generate_options\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
