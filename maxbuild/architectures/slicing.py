"""Cut from the source of a module what one function of it needs: its own definition and all that it names, no more.

Invariant: whoever runs a slice runs nothing of the module but the slice. So a digest of it is a digest of all that can
matter, and comments, docstrings, layout and the rest of the module are no part of it. What the function would need
beside what it names (a change made by another module, a name built at run time) is missing, and fails when it is looked
for.
"""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from maxbuild.architectures.modules import imported_base

_FUTURE = "from __future__ import annotations"

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_DOCUMENTED = (*_DEFINITIONS, ast.Module)


@dataclass(slots=True)
class _Module:
    """A module's statements at its top, the names that each binds, and which of them are in the slice."""

    name: str
    file: str
    package: list[str]
    statements: list[ast.stmt]
    binds: list[frozenset[str]]
    lazy_annotations: bool
    kept: set[int] = field(default_factory=set)

    @classmethod
    def read(cls, name: str, file: str, source: bytes) -> _Module:
        """Read a module; SyntaxError where it is none."""
        tree = ast.parse(source)
        _drop_docstrings(tree)
        statements = [single for statement in tree.body for single in _split(statement)]
        package = name.split(".") if file.endswith("__init__.py") else name.split(".")[:-1]
        lazy = any(isinstance(s, ast.ImportFrom) and s.module == "__future__" for s in statements)
        return cls(name, file, package, statements, [frozenset(_bound(s)) for s in statements], lazy)

    @property
    def stars(self) -> list[int]:
        """Return which statements bind names that cannot be seen."""
        return [index for index, bound in enumerate(self.binds) if "*" in bound]

    def source(self) -> str:
        """Return the text of what is kept."""
        kept = [s for i, s in enumerate(self.statements) if i in self.kept or _is_future(s)]
        return "\n".join(ast.unparse(statement) for statement in kept) + "\n" if self.kept else ""


class Slice:
    """What some functions of the modules below a folder need of their source."""

    def __init__(self, root: Path) -> None:
        """Start with nothing."""
        self._root = root
        self._modules: dict[str, _Module | None] = {}
        self._foreign: set[str] = set()

    def add(self, module: str, function: str) -> None:
        """Add what a function at the top of a module needs; LookupError where the module has no such name."""
        self._need(module, function)
        while self._add_touching():
            pass

    @property
    def sources(self) -> Mapping[str, str]:
        """Return the text of each file, by its path below the folder; packages' own files are there, often empty."""
        used = [module for module in self._modules.values() if module is not None and module.kept]
        packages = {"/".join(m.name.split(".")[:n]) for m in used for n in range(1, len(m.name.split(".")))}
        empty = {f"{package}/__init__.py": "" for package in packages}
        return dict(sorted({**empty, **{module.file: module.source() for module in used}}.items()))

    @property
    def foreign(self) -> frozenset[str]:
        """Return the names of all modules from elsewhere that the slice imports."""
        return frozenset(self._foreign)

    def _need(self, module_name: str, name: str) -> None:
        module = self._module(module_name)
        if module is None:
            raise LookupError(f"no module `{module_name}`")
        found = [index for index, bound in enumerate(module.binds) if name in bound]
        # Of a package, `name` may be a module in it, whether or not a statement of the package's own binds it.
        if self._module(f"{module_name}.{name}") is not None:
            self._need_all(f"{module_name}.{name}")
        elif not found and not module.stars:
            raise LookupError(f"module `{module_name}` has no `{name}`")
        for index in (*found, *module.stars):
            self._keep(module, index)

    def _need_all(self, module_name: str) -> None:
        module = self._module(module_name)
        for index in range(len(module.statements) if module is not None else 0):
            self._keep(module, index)  # type: ignore[arg-type]

    def _keep(self, module: _Module, index: int) -> None:
        if index in module.kept:
            return
        module.kept.add(index)
        for name in _read_by(module.statements[index], lazy_annotations=module.lazy_annotations):
            if any(name in bound for bound in module.binds):
                self._need(module.name, name)
        for node in ast.walk(module.statements[index]):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self._follow(alias.name, None)
            elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
                base = imported_base(node, module.package)
                for alias in node.names:
                    self._follow(base, alias.name)

    def _follow(self, module_name: str, name: str | None) -> None:
        """Add what an import statement takes of a module; of a module as a whole, and of `*`, all."""
        if self._module(module_name) is None:
            self._foreign.add(module_name)
        elif name is None or name == "*":  # `import a.b`: how much of it is used cannot be seen
            self._need_all(module_name)
        else:
            self._need(module_name, name)

    def _add_touching(self) -> bool:
        """Add statements that bind no name but may change what is kept, as `table["a"] = 1` does; tell whether any."""
        added = False
        for module in [module for module in self._modules.values() if module is not None and module.kept]:
            names = frozenset().union(*(module.binds[index] for index in module.kept))
            for index, statement in enumerate(module.statements):
                if not module.binds[index] and index not in module.kept and _names_in(statement) & names:
                    self._keep(module, index)
                    added = True
        return added

    def _module(self, name: str) -> _Module | None:
        """Return a module of the folder; None where it is from elsewhere."""
        if name not in self._modules:
            stem = name.replace(".", "/")
            files = [file for file in (f"{stem}/__init__.py", f"{stem}.py") if name and (self._root / file).is_file()]
            self._modules[name] = _Module.read(name, files[0], (self._root / files[0]).read_bytes()) if files else None
        return self._modules[name]


def _split(statement: ast.stmt) -> Iterator[ast.stmt]:
    """Yield an import of several names as several imports; drop what a module's end leaves of a docstring."""
    match statement:
        case ast.Import(names=names):
            yield from (ast.Import([alias]) for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            yield from (ast.ImportFrom(module, [alias], level) for alias in names)
        case ast.Pass():
            return
        case _:
            yield statement


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement binds at the top of its module; `*` where they cannot be seen."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Import(names=[alias]):
            yield alias.asname or alias.name.partition(".")[0]
        case ast.ImportFrom(names=[alias]):
            yield alias.asname or alias.name
        case _:
            # Of `if`, `try`, `for` and `with` all that is in them belongs together.
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id
                elif node is not statement and isinstance(node, (*_DEFINITIONS, ast.Import, ast.ImportFrom)):
                    yield from _bound(node) if isinstance(node, _DEFINITIONS) else _imported(node)


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    for single in _split(node):
        yield from _bound(single)


def _read_by(statement: ast.stmt, *, lazy_annotations: bool) -> frozenset[str]:
    """Return the names that a statement looks up in its module: not what is local to a function.

    lazy_annotations: annotations are mere text, and look up nothing.
    """
    future = f"{_FUTURE}\n" if lazy_annotations else ""
    waiting = [symtable.symtable(future + ast.unparse(statement), "slice", "exec")]
    read: set[str] = set()
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        is_module = table.get_type() == "module"
        read |= {s.get_name() for s in table.get_symbols() if s.is_referenced() and (is_module or s.is_global())}
    return frozenset(read)


def _names_in(statement: ast.stmt) -> frozenset[str]:
    return frozenset(node.id for node in ast.walk(statement) if isinstance(node, ast.Name))


def _is_future(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"


def _drop_docstrings(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
