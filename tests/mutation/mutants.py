"""One-line defects of a source file. Pure: source in, mutants out.

A mutant is named by the function it is in, by what stands there and what is put in its place, and
by a number where that is there several times: line numbers would change with every edit.
"""

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

SHOWN_CHARACTERS = 70


@dataclass(frozen=True, slots=True)
class _Defect:
    """A node, and the node that takes its place (None: it is taken out of its list).

    `around` is the function that it is in, or the statement of a module or class.
    """

    where: str
    node: ast.AST
    instead: ast.AST | None
    around: ast.stmt
    function: str

    def name(self) -> str:
        gone = "nothing" if self.instead is None else _shown(self.instead)
        return f"{self.where}: {_shown(self.node)} -> {gone}"


@dataclass(frozen=True, slots=True, eq=False)
class Mutant:
    """One defect of one file, by its name."""

    path: str
    name: str
    around: str
    """The source that it is in, without it: a mutant of other surroundings is another one."""
    function: str
    """The function or method that holds it, as `__qualname__` has it; empty if none does."""
    _tree: ast.Module
    _defect: _Defect

    @property
    def source(self) -> str:
        """The whole file with the defect."""
        return _with(self._tree, self._defect)


def mutants_of(path: str, source: str, only: str = "") -> list[Mutant]:
    """Every mutant of a file, in the order of the source; `only` one function of it."""
    tree = ast.parse(source)
    found: list[Mutant] = []
    counts: Counter[str] = Counter()
    sources: dict[int, str] = {}
    for defect in _in_body(tree.body):
        if only and defect.where.split(".")[0] != only:
            continue
        name = defect.name()
        counts[name] += 1
        if counts[name] > 1:
            name = f"{name} #{counts[name]}"
        around = sources.get(id(defect.around)) or ast.unparse(defect.around)
        sources[id(defect.around)] = around
        found.append(Mutant(path, name, around, defect.function, tree, defect))
    return found


def _with(tree: ast.Module, defect: _Defect) -> str:
    """The source with the defect. The tree is left as it was."""
    memo: dict[int, object] = {}
    broken = copy.deepcopy(tree, memo)
    node = memo[id(defect.node)]
    instead = None if defect.instead is None else copy.deepcopy(defect.instead)
    for parent in ast.walk(broken):
        for field, value in ast.iter_fields(parent):
            if value is node:
                setattr(parent, field, instead)
            elif isinstance(value, list):
                places = [n for n, each in enumerate(value) if each is node]
                for n in places:
                    _put(parent, field, n, instead)
    return ast.unparse(ast.fix_missing_locations(broken))


def _put(parent: ast.AST, field: str, place: int, instead: ast.AST | None) -> None:
    values = getattr(parent, field)
    if instead is not None:
        values[place] = instead
        return
    del values[place]
    if isinstance(parent, ast.Dict):
        del parent.values[place]


def _shown(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def _in_body(
    body: Sequence[ast.stmt], where: str = "", function: str = "", around: ast.stmt | None = None
) -> Iterator[_Defect]:
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            inner = f"{where}.{statement.name}" if where else statement.name
            yield from _in_body(statement.body, inner, function, around)
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = f"{where}.{statement.name}" if where else statement.name
            yield from _in_body(statement.body, inner, function or inner, around or statement)
        elif not _has_no_code(statement):
            for node in _code_of(statement):
                for target, instead in _instead_of(node):
                    yield _Defect(where or "module", target, instead, around or statement, function)


def _has_no_code(statement: ast.stmt) -> bool:
    """Docstrings, imports and bare declarations."""
    if isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass):
        return True
    if isinstance(statement, ast.AnnAssign) and statement.value is None:
        return True
    if isinstance(statement, ast.Assign) and ast.unparse(statement.value).startswith("TypeVar("):
        return True
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _code_of(node: ast.AST) -> Iterator[ast.AST]:
    """The node and all below it, without annotations, f-strings and docstrings."""
    yield node
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        below = value if isinstance(value, list) else [value]
        for each in below:
            if not isinstance(each, ast.AST) or isinstance(each, ast.JoinedStr):
                continue
            if isinstance(each, ast.stmt) and _has_no_code(each):
                continue
            if field == "keys" and isinstance(each, ast.Constant):
                continue  # taking the entry out is the same defect
            yield from _code_of(each)


_Pairs = Iterator[tuple[ast.AST, ast.AST | None]]


def _instead_of(node: ast.AST) -> _Pairs:
    for kinds, make in _MAKERS:
        if isinstance(node, kinds):
            yield from make(node)


_OTHER_COMPARISON: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
_OTHER_OPERATOR: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
}
_OTHER_NAME = {"any": "all", "all": "any", "min": "max", "max": "min"}


def _compare(node: ast.Compare) -> _Pairs:
    for n, operator in enumerate(node.ops):
        other = _OTHER_COMPARISON[type(operator)]
        changed = copy.copy(node)
        changed.ops = [*node.ops[:n], other(), *node.ops[n + 1 :]]
        yield node, changed


def _bool_op(node: ast.BoolOp) -> _Pairs:
    other: ast.boolop = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield node, ast.BoolOp(op=other, values=node.values)
    for n in range(len(node.values)):
        left = [*node.values[:n], *node.values[n + 1 :]]
        yield node, left[0] if len(left) == 1 else ast.BoolOp(op=node.op, values=left)


def _not(node: ast.UnaryOp) -> _Pairs:
    if isinstance(node.op, ast.Not):
        yield node, node.operand


def _condition(node: ast.If | ast.IfExp | ast.While) -> _Pairs:
    if not isinstance(node, ast.While):
        yield node.test, ast.Constant(value=True)
    yield node.test, ast.Constant(value=False)


def _constant(node: ast.Constant) -> _Pairs:
    value = node.value
    if isinstance(value, bool):
        yield node, ast.Constant(value=not value)
    elif isinstance(value, int):
        yield node, ast.Constant(value=value + 1)
    elif isinstance(value, str) and value:
        yield node, ast.Constant(value=f"{value}~")


def _collection(node: ast.Dict | ast.Set | ast.List | ast.Tuple) -> _Pairs:
    """Take out one entry at a time; not from what is assigned to."""
    if isinstance(getattr(node, "ctx", None), ast.Store):
        return
    if isinstance(node, ast.Dict):
        yield from _values(node)
    entries = [each for each in node.keys if each] if isinstance(node, ast.Dict) else node.elts
    if len(entries) > 1:
        for each in entries:
            yield each, None


def _values(node: ast.Dict) -> _Pairs:
    """In a table of names, put another of its values in place of each."""
    for value in node.values:
        if isinstance(value, ast.Name | ast.Attribute):
            others = (v for v in node.values if ast.dump(v) != ast.dump(value))
            other = next((v for v in others if isinstance(v, ast.Name | ast.Attribute)), None)
            if other is not None:
                yield value, other


def _operation(node: ast.BinOp) -> _Pairs:
    other = _OTHER_OPERATOR.get(type(node.op))
    if other is not None:
        yield node, ast.BinOp(left=node.left, op=other(), right=node.right)


def _call(node: ast.Call) -> _Pairs:
    for keyword in node.keywords:
        yield keyword, None


def _name(node: ast.Name) -> _Pairs:
    other = _OTHER_NAME.get(node.id)
    if other is not None and isinstance(node.ctx, ast.Load):
        yield node, ast.Name(id=other, ctx=ast.Load())


def _return(node: ast.Return) -> _Pairs:
    is_none = isinstance(node.value, ast.Constant) and node.value.value is None
    if node.value is not None and not is_none:
        yield node, ast.Return(value=ast.Constant(value=None))


def _statement(node: ast.stmt) -> _Pairs:
    """What a function does beside computing: leave it out."""
    yield node, ast.Pass()


_MAKERS: Sequence[tuple[type | tuple[type, ...], Callable[..., _Pairs]]] = (
    (ast.Compare, _compare),
    (ast.BoolOp, _bool_op),
    (ast.UnaryOp, _not),
    ((ast.If, ast.IfExp, ast.While), _condition),
    (ast.Constant, _constant),
    ((ast.Dict, ast.Set, ast.List, ast.Tuple), _collection),
    (ast.BinOp, _operation),
    (ast.Call, _call),
    (ast.Name, _name),
    (ast.Return, _return),
    ((ast.Raise, ast.AugAssign, ast.Continue, ast.Break), _statement),
    (ast.Expr, _statement),
)
