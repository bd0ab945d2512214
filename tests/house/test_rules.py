"""The rules of the house, as far as a program can judge them.

What broke a rule when it was made stands in debts.toml. Entries there are only ever removed: a test fails
when something new breaks a rule, and when an entry is not needed any longer.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from tree import SOURCE, Module, modules

from tcmu_runner import testing
from tcmu_runner.ring.layout import CDB_LENGTHS
from tcmu_runner.scsi.opcodes import DISK

DEBTS: dict[str, Any] = tomllib.loads((Path(__file__).parent / "debts.toml").read_text())
LINES_OF_A_MODULE = 300
LINES_OF_ANY_MODULE = 420  # also of those in debts.toml
LINES_OF_NINE_IN_TEN_MODULES = 320
MEDIAN_OF_MODULES = 110, 170
LINES_OF_A_FUNCTION = 40
MODULES_THAT_SHARE_A_NAME = 39  # only ever lowered; those of debts.toml
RIDDLES = re.compile(r"\b(who|whoever|whom|whose|told|shall|any more|is none's)\b", re.IGNORECASE)
SAYS_OPCODE = re.compile(r"\bopcode\b|\bcdb\[0\]")
OPCODES: dict[str, set[int]] = {}  # by name, as a constant may be called
for row in DISK:
    OPCODES.setdefault(re.sub(r"\W+", "_", row.name).strip("_"), set()).add(row.opcode)
TABLE = {"scsi/opcodes.py", "scsi/opcodes_primary.py"}
KNOWN = {row.opcode for row in DISK}
PUBLIC = set(testing.__all__)  # tcmu_runner.testing describes them beside its modules


@pytest.fixture(scope="module")
def tree() -> list[Module]:
    return modules()


def agrees(found: set[str], rule: str, way_out: str) -> None:
    """What was found is what debts.toml lists for the rule."""
    listed = set(DEBTS[rule])
    assert not (new := found - listed), f"{way_out}: {sorted(new)}"
    assert not (paid := listed - found), f"remove from {rule} in debts.toml: {sorted(paid)}"


def test_modules_are_of_a_size_to_be_read(tree: list[Module]) -> None:
    large = {each.name for each in tree if each.text.count("\n") > LINES_OF_A_MODULE}
    agrees(large, "large_modules", f"over {LINES_OF_A_MODULE} lines: move one kind of knowledge elsewhere")


def test_modules_are_neither_dust_nor_books(tree: list[Module]) -> None:
    """Most hold one kind of knowledge, which fills a few screens. Packages that list theirs do not count."""
    sizes = sorted((each.text.count("\n"), each.name) for each in tree if "__" not in Path(each.name).name)
    lengths = [length for length, _ in sizes]
    low, high = MEDIAN_OF_MODULES
    assert median(lengths) >= low, f"half of all modules are short: join small ones: {sizes[:20]}"
    assert median(lengths) <= high, f"half of all modules are long: cut large ones: {sizes[-20:]}"
    tenth = sizes[len(sizes) * 9 // 10 :]
    assert tenth[0][0] < LINES_OF_NINE_IN_TEN_MODULES, f"one in ten modules is too long: cut {tenth}"
    assert lengths[-1] <= LINES_OF_ANY_MODULE, f"cut {sizes[-1]}: {LINES_OF_ANY_MODULE} lines at most"


def test_functions_fit_on_a_screen(tree: list[Module]) -> None:
    long = {
        f"{module.name}::{name}"
        for module in tree
        for name, node in functions(module.tree)
        if node.end_lineno is not None and node.end_lineno - node.lineno >= LINES_OF_A_FUNCTION
    }
    agrees(long, "long_functions", f"over {LINES_OF_A_FUNCTION} lines: take a step out, as a function")


def functions(node: ast.AST, of: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """All functions below a node, with names such as Unit.begin."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield of + child.name, child
        name = getattr(child, "name", None)  # of a function, a class, or an exception that is caught
        yield from functions(child, f"{of}{name}." if name else of)


def test_a_name_means_one_class(tree: list[Module]) -> None:
    places = defaultdict(list)
    for module in tree:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module.name)
    twice = {name: sorted(found) for name, found in places.items() if len(found) > 1}
    assert not twice, f"rename one of each, or give it a leading underscore: {twice}"


def test_a_name_means_one_module(tree: list[Module]) -> None:
    """A search for a file finds one. __init__.py and __main__.py are Python's names."""
    names = Counter(Path(module.name).name for module in tree)
    twice = {name for name, count in names.items() if count > 1 and "__" not in name}
    agrees(twice, "modules_of_one_name", "another module has this name: give the new one its own")
    shared = sum(names[name] for name in twice)
    assert shared <= MODULES_THAT_SHARE_A_NAME, (
        f"one more has a name of debts.toml: rename it: {sorted(twice)}"
    )


def opcodes_written(module: Module) -> set[str]:
    """Where it writes an opcode: as a command's name, beside what is one, among others, in a CDB."""
    return {
        f"line {node.lineno}: {ast.unparse(node).splitlines()[0]}"
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.Assign | ast.AnnAssign) and named_for_its_opcode(node))
        or (isinstance(node, ast.Compare) and compares_an_opcode(node))
        or (isinstance(node, ast.Match) and matches_an_opcode(node))
        or (isinstance(node, ast.Set | ast.Tuple | ast.List) and all_are_opcodes(node.elts, module.text))
        or (isinstance(node, ast.Dict) and all_are_opcodes(node.keys, module.text))
        or (isinstance(node, ast.Constant) and is_cdb(node.value))
    }


def named_for_its_opcode(node: ast.Assign | ast.AnnAssign) -> bool:
    """EXTENDED_COPY = 0x83, _READ_16 = b"\\x88\\0", VERIFY_10, ... = 0x2F, ..."""
    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
    pairs = zip(elements(target), elements(node.value) if node.value else (), strict=False)
    return any(
        value in codes
        for target, constant in pairs
        if isinstance(target, ast.Name) and (value := first_byte(constant)) is not None
        for name, codes in OPCODES.items()
        if f"{name}_".startswith(f"{target.id.strip('_')}_")
    )


def compares_an_opcode(node: ast.Compare) -> bool:
    """cdb[0] == 0x28, opcode in (0x28, ...)"""
    sides = [node.left, *node.comparators]
    return any(SAYS_OPCODE.search(ast.unparse(side)) for side in sides) and any(
        first_byte(constant) in KNOWN for side in sides for constant in elements(side)
    )


def matches_an_opcode(node: ast.Match) -> bool:
    """match cdb[0]: case 0x28 | 0x2A: ..."""
    values = [
        each.value
        for case in node.cases
        for each in ast.walk(case.pattern)
        if isinstance(each, ast.MatchValue)
    ]
    return bool(SAYS_OPCODE.search(ast.unparse(node.subject))) and any(
        first_byte(each) in KNOWN for each in values
    )


def all_are_opcodes(constants: Sequence[ast.expr | None], text: str) -> bool:
    """{0x16, 0x17, 0x56}, {0x28: "read", ...}: at least three, in hexadecimal"""
    return len(constants) > 2 and all(
        each and first_byte(each) in KNOWN and (ast.get_source_segment(text, each) or "").startswith("0x")
        for each in constants
    )


def is_cdb(value: object) -> bool:
    """ "28 00 00000000 00 0008 00": a CDB of a command that is in the table, in hexadecimal"""
    if not isinstance(value, str) or not re.fullmatch(r"(?:[0-9a-fA-F]{2} ?){6,}", value):
        return False
    cdb = bytes.fromhex(value)
    return cdb[0] in KNOWN and len(cdb) == CDB_LENGTHS[cdb[0]]


def first_byte(node: ast.expr) -> int | None:
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, bytes) and value:
        return value[0]
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def elements(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]


def test_opcodes_stand_in_the_table(tree: list[Module]) -> None:
    found = {module.name: lines for module in tree if (lines := opcodes_written(module))}
    elsewhere = {name: lines for name, lines in found.items() if name not in TABLE}
    assert not elsewhere, f'ask the table by name, as in DISK.row("WRITE SAME(16)"): {elsewhere}'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("EXTENDED_COPY, WRITE_ATOMIC = 0x83, 0x9C", True),
        ("_REPORT_LUNS = 0xA0", True),
        ('READ_16, WRITE_16 = b"\\x88\\0", b"\\x8a\\0"', True),
        ("REPORT_TARGET_PORT_GROUPS = (0xA3, 0x0A)", True),
        ("READ, WRITE = 0x40, 0x20", False),  # flags of iSCSI
        ("rows = [row for row in DISK if row.opcode in (0x28, 0x2A)]", True),
        ("writes = cdb[0] == 0x2A", True),
        ("is_long = opcode == 0x7F", False),  # not in the table
        ("READ_16: int = 0x88", True),
        ("READ_16: int", False),
        ("match cdb[0]:\n    case 0x2A:\n        pass", True),
        ("match kind:\n    case 0x2A:\n        pass", False),
        ("reservations = {0x16, 0x17, 0x56}", True),
        ("NAMES = {0x16: 'RESERVE', 0x17: 'RELEASE', 0x56: 'RESERVE'}", True),
        ("answers = (0, 2, 10)", False),
        ('COMMANDS = ("28 00 00000000 00 0008 00", "120000002400")', True),
        ('NOBODY = "c10000000000"', False),
    ],
)
def test_what_is_an_opcode(text: str, found: bool) -> None:
    assert bool(opcodes_written(Module("made/up.py", text))) == found, "mend opcodes_written, or this list"


def test_handlers_are_written_from_public_names() -> None:
    """What an author of a handler copies from: examples, the documents' code, the handlers of the tests."""
    root = SOURCE.parents[1]
    copied = [*(root / "examples").glob("*.py"), *(root / "tests/vm/handlers").glob("*.py")]
    internal = {
        f"{path.relative_to(root)}: {name}"
        for path in (*copied, root / "README.md", *(root / "docs").rglob("*.md"))
        for name in re.findall(r"^[> ]*(?:from|import) (tcmu_runner[\w.]*)", path.read_text(), re.MULTILINE)
        if name not in ("tcmu_runner", "tcmu_runner.testing")
    }
    assert not internal, f"import from tcmu_runner or tcmu_runner.testing, or export it there: {internal}"


def test_mypy_looks_at_all_python() -> None:
    """./dev names directories to mypy; a new one does not go past it."""
    root = SOURCE.parents[1]
    runs = re.findall(r"^ +types \S+ (.*)$", (root / "dev").read_text().replace("\\\n", ""), re.MULTILINE)
    checked = [root / name for run in runs for name in run.split()]
    rooms = [room for room in root.iterdir() if room.name not in ("out", "dist", "build")]
    files = [file for room in rooms if room.name[0] != "." for file in (room, *room.rglob("*.py"))]
    found = {
        str(file.relative_to(root))
        for file in files
        if file.suffix == ".py" and not any(file.is_relative_to(place) for place in checked)
    }
    assert not found, f"add its directory to check_types in ./dev: {sorted(found)}"


def test_a_package_lists_its_modules(tree: list[Module]) -> None:
    """A reader who opens a room finds each module with what it knows, in a line of its own."""
    listed = {module.room: module_lines(module) for module in tree if Path(module.name).name == "__init__.py"}
    missing = {
        name
        for name in (module.name.removesuffix("/__init__.py") for module in tree)
        if (room := str(Path(name).parent)) != "." and Path(name).stem not in listed[room]
    }
    agrees(missing, "modules_not_listed", "describe it in a line of its package's __init__")
    files = {module.name for module in tree}
    gone = {
        f"{room}: {name}"
        for room, names in listed.items()
        for name in names - PUBLIC
        if not {f"{room}/{name}.py", f"{room}/{name}/__init__.py"} & files
    }
    assert not gone, f"remove the lines of modules that are gone from __init__: {gone}"


def module_lines(package: Module) -> set[str]:
    """The modules that a package's docstring describes: "name  what it knows". Words are "word: meaning"."""
    prose = ast.get_docstring(package.tree) or ""
    return set(re.findall(r"^ *(\w+)/?  +\S", prose, re.MULTILINE)) if package.room != "." else set()


def test_prose_names_its_actors(tree: list[Module]) -> None:
    """Subject, verb, object: for each room debts.toml has the number of riddles that may be left."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for module in tree:
        for text in module.prose():
            found[module.room] += [
                f"{module.name}: {word} ({text.strip()[:60]!r})" for word in RIDDLES.findall(text)
            ]
    left: dict[str, int] = DEBTS["riddles"]
    more = {room: places for room, places in found.items() if len(places) > left.get(room, 0)}
    assert not more, f"name the actor, the unit or the thread instead: {more}; allowed: {left}"
    fewer = {room: len(found[room]) for room, count in left.items() if len(found[room]) < count}
    assert not fewer, f"lower the numbers in debts.toml: {fewer}"
