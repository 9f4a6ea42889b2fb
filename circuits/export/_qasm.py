"""To and from OpenQASM 3, by way of Qiskit."""

from __future__ import annotations

import contextlib
import io
import math
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from circuits.circuit import Circuit
from circuits.export._qiskit_in import BASIS, from_qiskit
from circuits.export._qiskit_out import FEATURES, build_qiskit

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.circuit import Parameter

_CONSTANTS = {"pi": math.pi, "π": math.pi, "tau": math.tau, "τ": math.tau, "euler": math.e, "ℇ": math.e}
_FUNCTIONS = {
    "arctan": "arctan",
    "atan": "arctan",
    "exp": "exp",
    "sin": "sin",
    "cos": "cos",
    "tan": "tan",
    "log": "log",
    "arcsin": "arcsin",
    "arccos": "arccos",
}


def to_qasm3(
    circuit: Circuit,
    parameters: ArrayLike | None = None,
    features: ArrayLike | None = None,
    *,
    flat: bool = False,
) -> str:
    """Return the circuit as an OpenQASM 3 program, unmeasured; arguments and errors are those of
    ``to_qiskit``.

    What is left open becomes ``input float[64]`` variables ``GROUP_0``, ``GROUP_1``, ... and ``features_0``,
    ... (with ``flat`` ``angles_0``, ...); those that no gate reads do not occur. An initial state is written
    out as gates.

    Source: OpenQASM 3, arXiv:2104.14722.
    """
    from qiskit import qasm3, transpile
    from qiskit.circuit import Parameter

    def scalars(name: str, size: int) -> list[Parameter]:
        return [Parameter(f"{name}_{index}") for index in range(size)]

    result = build_qiskit(circuit, parameters, features, flat, scalars)
    if circuit.initial_state is not None:
        # Qiskit writes amplitudes into the program as gate arguments, which is no OpenQASM.
        result = transpile(result, basis_gates=list(BASIS), optimization_level=0)
    # The language calls it arctan, Qiskit's writer atan.
    return qasm3.dumps(result).replace("atan(", "arctan(")


def from_qasm3(text: str, *, features: str = FEATURES) -> Circuit:
    """Return an OpenQASM 3 program in our gate set, equal as a state up to a global phase.

    Input variables become parameters and features by the rules of ``from_qiskit`` for loose parameters:
    ``NAME_3`` is entry 3 of the group ``NAME``.

    Args:
        text: the program.
        features: name of the group that holds the features.

    Raises:
        TypeError: the text is no string.
        ValueError: the text is no OpenQASM 3, or describes no circuit of ours; see ``from_qiskit``.

    Source: OpenQASM 3, arXiv:2104.14722.
    """
    if not isinstance(text, str):
        raise TypeError(f"text: {type(text).__name__} is not a string; give the program's text")
    return from_qiskit(_loads(text), features=features)


def _loads(text: str) -> QuantumCircuit:
    import openqasm3
    from openqasm3.parser import QASM3ParsingError
    from qiskit.exceptions import QiskitError
    from qiskit_qasm3_import import ConversionError, convert

    printed = io.StringIO()
    try:
        # The parser prints syntax errors instead of raising them with their text.
        with contextlib.redirect_stderr(printed):
            program = openqasm3.parse(text)
        formulas = _extract_formulas(program)
        circuit: QuantumCircuit = convert(program)
    except (QASM3ParsingError, ConversionError, QiskitError, AttributeError) as error:
        # A text without statements makes the parser stumble over its own None.
        message = "" if isinstance(error, AttributeError) else str(error)
        lines = (message or printed.getvalue() or "there is no program").split("\n")
        raise ValueError(f"text: is no OpenQASM 3 that can be read: {lines[0]}; correct it") from None
    return _insert_formulas(circuit, formulas)


def _extract_formulas(program: Any) -> dict[str, Any]:
    """Replace gate arguments that call functions, which Qiskit's reader refuses, by inputs; return them."""
    from openqasm3 import ast
    from openqasm3.visitor import QASMTransformer, QASMVisitor

    class Finder(QASMVisitor[None]):
        found = False

        def visit_FunctionCall(self, node: ast.FunctionCall) -> None:  # noqa: N802
            self.found = True

    formulas: dict[str, Any] = {}

    class Extractor(QASMTransformer[None]):
        def visit_QuantumGateDefinition(self, node: ast.Statement) -> ast.Statement:  # noqa: N802
            return node

        def visit_QuantumGate(self, node: ast.QuantumGate) -> ast.QuantumGate:  # noqa: N802
            for position, argument in enumerate(node.arguments):
                finder = Finder()
                finder.visit(argument)
                if finder.found:
                    name = f"_formula{len(formulas)}"
                    formulas[name] = argument
                    node.arguments[position] = ast.Identifier(name)
            return node

    Extractor().visit(program)
    first = next((k for k, s in enumerate(program.statements) if not isinstance(s, ast.Include)), 0)
    program.statements[first:first] = [
        ast.IODeclaration(ast.IOKeyword["input"], ast.FloatType(None), ast.Identifier(name))
        for name in formulas
    ]
    return formulas


def _insert_formulas(circuit: QuantumCircuit, formulas: dict[str, Any]) -> QuantumCircuit:
    if not formulas:
        return circuit
    from qiskit.circuit import Parameter

    known = {parameter.name: parameter for parameter in circuit.parameters}

    def symbol(name: str) -> Parameter:
        return known.setdefault(name, Parameter(name))

    values = {known[name]: _evaluate(node, symbol) for name, node in formulas.items() if name in known}
    return circuit.assign_parameters(values)


def _evaluate(node: Any, symbol: Any) -> Any:
    from openqasm3 import ast

    if isinstance(node, ast.FloatLiteral | ast.IntegerLiteral):
        return node.value
    if isinstance(node, ast.Identifier):
        return _CONSTANTS.get(node.name) or symbol(node.name)
    if isinstance(node, ast.UnaryExpression) and node.op.name == "-":
        return -_evaluate(node.expression, symbol)
    if isinstance(node, ast.FunctionCall) and node.name.name in _FUNCTIONS and len(node.arguments) == 1:
        argument = _evaluate(node.arguments[0], symbol)
        name = _FUNCTIONS[node.name.name]
        if isinstance(argument, int | float):
            return getattr(math, {"arctan": "atan", "arcsin": "asin", "arccos": "acos"}.get(name, name))(
                argument
            )
        return getattr(argument, name)()
    if isinstance(node, ast.BinaryExpression) and node.op.name in ("+", "-", "*", "/", "**"):
        left, right = _evaluate(node.lhs, symbol), _evaluate(node.rhs, symbol)
        operators = {
            "+": lambda: left + right,
            "-": lambda: left - right,
            "*": lambda: left * right,
            "/": lambda: left / right,
            "**": lambda: left**right,
        }
        return operators[node.op.name]()
    raise ValueError(
        f"text: {type(node).__name__} in an angle is not supported; use + - * / ** and functions"
    )
