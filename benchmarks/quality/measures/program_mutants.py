"""Wrong programs made from right ones by a fixed rule, to see that tests tell them apart.

A mutant differs in one place: a comparison or an operator has a neighbour's place, a constant is one more, a truth value
is turned round, or the value of a return is missing. The first one counts, in this order and in that of the source, that
gives another result for at least half of the arguments that the tests call the function with: mutants that compute the
same are no wrong programs, and of a problem with several right answers one that differs now and then may still be right.
Where no mutant does, the one that differs most counts. All that is found without the tests' expected values.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Mapping
from typing import Any

from parakit.sandbox import Limits, run_python

_COMPARISONS: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_OPERATORS: Mapping[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitXor: ast.BitOr, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
_COMPARE = """
import copy, math
def _near(a, b):
    if isinstance(a, float) and isinstance(b, (int, float)):
        return a == b or abs(a - b) <= 1e-3 * max(abs(a), abs(b)) or (a != a and b != b)
    if isinstance(a, (list, tuple)) and type(a) is type(b):
        return len(a) == len(b) and all(map(_near, a, b))
    return type(a) is type(b) and a == b
def _result(function, arguments):
    try:
        return "value", function(*copy.deepcopy(arguments))
    except Exception as error:
        return "error", type(error).__name__
def _recorded(*arguments):
    _calls.append(copy.deepcopy(arguments))
    return _right(*arguments)
_calls = []
try:
    check(_recorded)
except Exception:
    pass
n_same = sum(_near(_result(_right, one), _result(_wrong, one)) for one in _calls)
print(1 - n_same / len(_calls))
"""


def changed_program(row: Mapping[str, Any]) -> str | None:
    """The first mutant of a HumanEval row's solution that computes something else: the whole function; None for none."""
    right = row["prompt"] + row["canonical_solution"]
    name = row["entry_point"]
    shares: dict[str, float] = {}
    for mutant in _mutants(right, name):
        program = (
            f"{right}\n_right = {name}\n{mutant}\n_wrong = {name}\n{name} = _right\n{row['test']}\n{_COMPARE}"
        )
        run = run_python(program, limits=Limits(cpu_seconds=3))
        endless = run.limit in ("cpu", "wall", "memory")
        shares[mutant] = 1.0 if endless else float(run.stdout.strip().rpartition("\n")[2] or 0)
        if shares[mutant] >= 0.5:
            return mutant
    return max(shares, key=shares.__getitem__, default=None)


def _mutants(source: str, name: str) -> Iterator[str]:
    """The function `name` of a program with one place changed, as sources."""
    tree = ast.parse(source)
    function = next(
        node for node in reversed(tree.body) if isinstance(node, ast.FunctionDef) and node.name == name
    )
    for change in (_comparison, _operator, _constant, _boolean, _return):
        for place in range(sum(1 for _ in _body(function))):
            mutated = copy.deepcopy(function)
            node = next(one for i, one in enumerate(_body(mutated)) if i == place)
            if change(node):
                yield ast.unparse(ast.fix_missing_locations(mutated))


def _body(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function's statements, in the order of the source, its docstring left out."""
    start = int(ast.get_docstring(function, clean=False) is not None)
    for statement in function.body[start:]:
        yield from ast.walk(statement)


def _comparison(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
        node.ops[0] = _COMPARISONS[type(node.ops[0])]()
        return True
    return False


def _operator(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in _OPERATORS:
        node.op = _OPERATORS[type(node.op)]()
        return True
    return False


def _constant(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1
        return True
    return False


def _boolean(node: ast.AST) -> bool:
    if isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        return True
    return False


def _return(node: ast.AST) -> bool:
    if isinstance(node, ast.Return) and node.value is not None:
        node.value = None
        return True
    return False
