"""The package's source, as the rules look at it: modules, and the prose in them."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src/tcmu_runner"


@dataclass(frozen=True)
class Module:
    """One file. name: its path below the package, such as scsi/sense.py."""

    name: str
    text: str

    @property
    def room(self) -> str:
        """The directory that it stands in, "." for the package itself."""
        return str(Path(self.name).parent)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def prose(self) -> Iterator[str]:
        """Its docstrings and comments."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield ast.get_docstring(node) or ""
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type == tokenize.COMMENT:
                yield token.string


def modules() -> list[Module]:
    return [Module(str(path.relative_to(SOURCE)), path.read_text()) for path in sorted(SOURCE.rglob("*.py"))]
