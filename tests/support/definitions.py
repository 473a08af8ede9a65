"""Names that Python source defines."""

from __future__ import annotations

import ast


def defined_names(tree: ast.AST) -> set[str]:
    """The functions and classes that *tree* defines at any level, and the variables and attributes that it assigns."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found
