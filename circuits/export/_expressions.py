"""Reading Qiskit's angle formulas back into our angles.

A formula is read from its text with the symbols renamed, so only Qiskit's public interface is used; the
result is then compared with Qiskit's own value at a point, because the text is meant for people.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from circuits.gates import SQUASHES, Angle, Term

if TYPE_CHECKING:
    from qiskit.circuit import Parameter

# (function, symbols, factor): the function of factor times the product of the symbols; "none" has factor 1.
_Atom = tuple[str, tuple[int, ...], float]
_Sum = dict[_Atom, float]

_ONE: _Atom = ("none", (), 1.0)
_MAX_POWER = 16
_TOLERANCE = 1e-9
_NUMERIC: dict[str, Callable[[float], float]] = {
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "exp": math.exp,
    "log": math.log,
    "abs": abs,
}


@dataclass(frozen=True, slots=True)
class Symbol:
    """Where a free Qiskit parameter goes: entry ``index`` of the features or of the parameter vector."""

    index: int
    is_feature: bool


def read_angle(where: str, expression: Any, symbols: Mapping[Parameter, Symbol]) -> Angle:
    """Return the angle that a number or a ``ParameterExpression`` describes.

    Sums of coefficient * parameter * features are read, also inside arctan or the logistic function (which is
    a tanh).

    Args:
        where: the gate, for messages.
        expression: the gate's angle.
        symbols: where each free parameter goes.

    Raises:
        ValueError: the formula is none of ours.
    """
    free = list(getattr(expression, "parameters", ()))
    if not free:
        return Angle(float(expression))
    from qiskit.circuit import Parameter

    names = {parameter: Parameter(f"_s{k}") for k, parameter in enumerate(free)}
    known = {f"_s{k}": k for k in range(len(free))}
    try:
        body = ast.parse(str(expression.subs(names)), mode="eval").body
        angle = _angle(_read(body, known), [symbols[parameter] for parameter in free])
        _check(expression, angle, {parameter: symbols[parameter] for parameter in free})
    except (_UnreadableError, SyntaxError, ArithmeticError) as error:
        reason = f" ({error})" if isinstance(error, _UnreadableError) else ""
        raise ValueError(
            f"{where}: angle {expression} is no sum of coefficient * parameter * features, plain or in"
            f" arctan or tanh{reason}; assign its parameters or give the gate a Parameter of its own"
        ) from None
    return angle


class _UnreadableError(ValueError):
    """The formula is outside what an angle can say."""


def _read(node: ast.expr, known: Mapping[str, int]) -> _Sum:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return {_ONE: float(node.value)}
    if isinstance(node, ast.Name) and node.id in known:
        return {("none", (known[node.id],), 1.0): 1.0}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _scaled(_read(node.operand, known), -1.0)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd):
        return _read(node.operand, known)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1:
        return _call(node.func.id, _read(node.args[0], known))
    if isinstance(node, ast.BinOp):
        left, right = _read(node.left, known), _read(node.right, known)
        if isinstance(node.op, ast.Add):
            return _added(left, right)
        if isinstance(node.op, ast.Sub):
            return _added(left, _scaled(right, -1.0))
        if isinstance(node.op, ast.Mult):
            return _product(left, right)
        if isinstance(node.op, ast.Div):
            return _quotient(left, right)
        if isinstance(node.op, ast.Pow):
            return _power(left, right)
    raise _UnreadableError(f"{ast.unparse(node)} is not supported")


def _number(value: _Sum) -> float | None:
    return value.get(_ONE, 0.0) if set(value) <= {_ONE} else None


def _scaled(value: _Sum, factor: float) -> _Sum:
    return {atom: factor * coefficient for atom, coefficient in value.items()}


def _added(left: _Sum, right: _Sum) -> _Sum:
    result = dict(left)
    for atom, coefficient in right.items():
        result[atom] = result.get(atom, 0.0) + coefficient
    return {atom: coefficient for atom, coefficient in result.items() if coefficient != 0.0}


def _product(left: _Sum, right: _Sum) -> _Sum:
    for first, second in ((left, right), (right, left)):
        number = _number(first)
        if number is not None:
            return _scaled(second, number)
    result: _Sum = {}
    for (f, symbols, _), a in left.items():
        for (g, others, _), b in right.items():
            if f != "none" or g != "none":
                raise _UnreadableError("a function is multiplied by a symbol")
            result = _added(result, {("none", tuple(sorted(symbols + others)), 1.0): a * b})
    return result


def _quotient(left: _Sum, right: _Sum) -> _Sum:
    number = _number(right)
    if number is not None:
        return {atom: coefficient / number for atom, coefficient in left.items()}
    # c / (1 + exp(2 u)) = c / 2 - c / 2 tanh(u)
    numerator, rest = _number(left), dict(right)
    if numerator is None or rest.pop(_ONE, 0.0) != 1.0 or len(rest) != 1:
        raise _UnreadableError("division by a symbol")
    ((function, symbols, factor), coefficient), *_ = rest.items()
    if function != "exp" or coefficient != 1.0:
        raise _UnreadableError("division by a symbol")
    half = numerator / 2
    return _added({_ONE: half}, _scaled(_odd("tanh", symbols, factor / 2), -half))


def _power(left: _Sum, right: _Sum) -> _Sum:
    exponent = _number(right)
    base = _number(left)
    if exponent is not None and base is not None:
        return {_ONE: float(base**exponent)}
    if exponent is None or not exponent.is_integer() or not 0 <= exponent <= _MAX_POWER:
        raise _UnreadableError(f"the exponent is no integer from 0 to {_MAX_POWER}")
    result: _Sum = {_ONE: 1.0}
    for _ in range(int(exponent)):
        result = _product(result, left)
    return result


def _call(function: str, argument: _Sum) -> _Sum:
    number = _number(argument)
    if number is not None and function in _NUMERIC:
        return {_ONE: float(_NUMERIC[function](number))}
    if function not in ("atan", "exp") or len(argument) != 1:
        raise _UnreadableError(f"{function} of this argument is not supported")
    ((inner, symbols, _), factor), *_ = argument.items()
    if inner != "none":
        raise _UnreadableError("a function of a function")
    return {("exp", symbols, factor): 1.0} if function == "exp" else _odd("arctan", symbols, factor)


def _odd(squash: str, symbols: tuple[int, ...], factor: float) -> _Sum:
    # A term has no coefficient inside its squash, only its sign can be moved out.
    if abs(factor) != 1.0:
        raise _UnreadableError(f"{squash} has the coefficient {factor:g} inside")
    return {(squash, symbols, 1.0): factor}


def _angle(value: _Sum, symbols: list[Symbol]) -> Angle:
    terms: list[Term] = []
    for (function, used, _), coefficient in value.items():
        if not used:
            continue
        if function not in SQUASHES:
            raise _UnreadableError(f"{function} is not supported")
        parameters = [symbols[k].index for k in used if not symbols[k].is_feature]
        features = tuple(sorted(symbols[k].index for k in used if symbols[k].is_feature))
        if len(parameters) > 1:
            raise _UnreadableError("a product of two parameters")
        parameter = parameters[0] if parameters else None
        terms.append(Term(coefficient, parameter, features, function))  # type: ignore[arg-type]
    terms.sort(key=lambda term: (term.parameter is None, term.parameter or 0, term.features, term.squash))
    return Angle(value.get(_ONE, 0.0), tuple(terms))


def _check(expression: Any, angle: Angle, symbols: Mapping[Parameter, Symbol]) -> None:
    generator = np.random.default_rng(len(symbols))
    point = {parameter: float(generator.uniform(0.2, 1.2)) for parameter in symbols}
    theta = {symbol.index: point[p] for p, symbol in symbols.items() if not symbol.is_feature}
    x = {symbol.index: point[p] for p, symbol in symbols.items() if symbol.is_feature}
    total, size = angle.constant, abs(angle.constant)
    for term in angle.terms:
        value = 1.0 if term.parameter is None else theta[term.parameter]
        value *= math.prod(x[index] for index in term.features)
        squashed = {"none": value, "tanh": math.tanh(value), "arctan": math.atan(value)}[term.squash]
        total += term.coefficient * squashed
        size += abs(term.coefficient * squashed)
    bound = expression.bind(point)
    if abs(float(bound) - total) > _TOLERANCE * (1.0 + size):
        raise _UnreadableError("its text does not say what it computes")
