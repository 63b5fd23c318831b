"""Generated code for the usual case: attributes that are there and of the type they should be.

It gives the value of a condition or raises anything whatever, upon which the exact code is asked. So it need not
evaluate in order, need not say what went wrong, and may use a subscript where the exact code has a function.
"""

from __future__ import annotations

from policy_engine.language.condition.exact import BINARY_NAMES, ExactWriter
from policy_engine.language.condition.function import FUNCTIONS
from policy_engine.language.condition.path import Attribute
from policy_engine.language.condition.slots import Scope
from policy_engine.language.condition.syntax import (
    Binary,
    Call,
    Expression,
    Has,
    Literal,
    Logical,
    Macro,
    Path,
    Ternary,
    Unary,
    Variable,
)
from policy_engine.language.condition.value import INT64_MAX, INT64_MIN

_RANGE = f"{INT64_MIN} <= {{0}} <= {INT64_MAX}"
_NUMBERS = frozenset({"int", "double"})
_INLINE_ARITHMETIC = frozenset("+-*")
_ORDERINGS = frozenset({"<", "<=", ">", ">="})
_MACRO_NAMES = {"all": "all_fast", "exists": "exists_fast", "exists_one": "exists_one"}
_INLINE_CALLS = {
    "startsWith": "{0}.startswith({1})",
    "endsWith": "{0}.endswith({1})",
    "contains": "{1} in {0}",
    "matches": "{1}.search({0}) is not None",
}
_DECLARED_TESTS = {
    "double": "type({0} := {1}) is float",
    "int": f"type({{0}} := {{1}}) is int and {_RANGE}",
    "string": "type({0} := {1}) is str",
    "bool": "({0} := {1}) is True or {0} is False",
}


class FastWriter(ExactWriter):
    """Writes an expression as Python that bails out of everything unusual."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        self._reads = False

    def function(self, root: Expression) -> str:
        """Return the source of `make(recover, k0, k1, ...)`, which returns the function of context and facts."""
        result = self.truth(root, root)
        budget = "            n = Budget()\n" if self.scope.metered else ""
        reader = "            r = Reader(context, facts)\n" if self._reads else ""
        return (
            f"def make({', '.join(['recover', *self.parameters()])}):\n"
            "    def evaluate(context, facts):\n"
            "        try:\n"
            f"{budget}{reader}"
            f"            return {result}\n"
            "        except FAILURES:\n"
            "            pass\n"
            "        return recover(context, facts)\n"
            "    return evaluate\n"
        )

    def blame(self, node: Expression) -> str:  # noqa: ARG002 - whoever is to blame is found by the exact code
        """Return that nobody is to blame."""
        return "None"

    # What is known of the type of an expression, and of the names in it.

    def _type(self, node: Expression) -> str | None:
        """Return the type an expression has if it has a value, where that is certain."""
        match node:
            case Path() if node.segments in self.scope.attributes:
                declared = self.scope.attributes[node.segments].declared
                return None if declared == "any" else declared
            case Logical() | Has():
                return "bool"
            case Unary() if node.operator == "!":
                return "bool"
            case Binary() if node.operator in _ORDERINGS or node.operator in {"==", "!=", "in"}:
                return "bool"
            case Call():
                return FUNCTIONS[node.function].result
            case Macro():
                return "list" if node.function in {"map", "filter"} else "bool"
        return self.slots.constant_type(node)

    def _is_leaf(self, node: Expression) -> bool:
        return isinstance(node, (Path, Variable, Literal)) or self.slots.constant_type(node) is not None

    def _is_raw(self, node: Expression) -> bool:
        """Whether the text of an expression gives a value that nobody has looked at yet."""
        if not isinstance(node, Path) or self.in_macro:
            return False
        attribute = self.scope.attributes.get(node.segments)
        return attribute is not None and attribute.is_direct and attribute.declared == "any"

    def _raw(self, node: Expression) -> str:
        if isinstance(node, Path) and self._is_raw(node):
            return self._load(self.scope.attributes[node.segments])
        return self.value(node)

    def _load(self, attribute: Attribute) -> str:
        fact = self.slots.static(attribute.dotted)
        if attribute.reserved:
            return f"facts[{fact}]"
        walk = "context" + "".join(f"[{self.slots.static(segment)}]" for segment in attribute.segments)
        return f"(facts[{fact}] if {fact} in facts else {walk})" if attribute.is_fact else walk

    def path(self, node: Path) -> str:
        """Return the text of a name that is read at run time, its value checked."""
        attribute = self.scope.attributes[node.segments]
        slot = self.slots.static(attribute)
        if self.in_macro:
            self._reads = True
            return f"r({slot})"
        if not attribute.is_direct:
            return f"resolve({slot}, context, facts)"
        load = self._load(attribute)
        if attribute.declared == "any":
            return f"plain({load}, None)"
        test = _DECLARED_TESTS.get(attribute.declared)
        if test is None:
            return f"resolve({slot}, context, facts)"
        name = self.fresh()
        return f"({name} if {test.format(name, load)} else converted({slot}, plain({name}, None)))"

    # Operators.

    def truth(self, node: Expression, blamed: Expression) -> str:
        """Return the text of an operand that has to be a bool."""
        if self._type(node) == "bool":
            return self.value(node)
        if isinstance(node, Ternary):
            condition = self.truth(node.condition, node)
            return f"({self.truth(node.then, blamed)} if {condition} else {self.truth(node.otherwise, blamed)})"
        name = self.fresh()
        return f"({name} if ({name} := {self._raw(node)}) is True or {name} is False else bail())"

    def logical(self, node: Logical) -> str:
        """Return the text of `&&` or `||`."""
        word = " and " if node.operator == "&&" else " or "
        return f"({word.join(self.truth(operand, operand) for operand in node.operands)})"

    def binary(self, node: Binary) -> str:
        """Return the text of an arithmetic operator or a comparison."""
        operator = node.operator
        inline = None
        if operator in _ORDERINGS:
            inline = self._numbers(node) or self._strings(node)
        elif operator in {"==", "!="}:
            inline = self._numbers(node) or self._strings(node) or self._words(node)
        elif operator == "in":
            inline = self._membership(node)
        elif operator in _INLINE_ARITHMETIC:
            inline = self._doubles(node)
        if inline is not None:
            return inline
        return self._called(node, self.value(node.left), self.value(node.right))

    def _called(self, node: Binary, left: str, right: str) -> str:
        return f"{BINARY_NAMES[node.operator]}({self.budget}, None, {left}, {right})"

    def _inline(self, node: Binary, test: str, result: str) -> str | None:
        """Return the operator written out, behind a test of its operands; the function, where the test fails.

        Args:
            node: The operator; one operand at most is not a leaf.
            test: What each operand has to pass: `{0}` is a name for it, `{1}` its text.
            result: The operator written out, `{0}` and `{1}` being the operands.
        """
        # The operand that is more than a leaf is evaluated first, and once: its name stands for it afterwards.
        operands = sorted((node.left, node.right), key=self._is_leaf)
        if not self._is_leaf(operands[1]):
            return None
        names: dict[int, str] = {}
        tests: list[str] = []
        for operand in operands:
            if self._passes(operand, test):
                names[id(operand)] = self.value(operand)
                continue
            name = names[id(operand)] = self.fresh()
            tests.append("(" + test.format(name, self._raw(operand), self._within(operand, name)) + ")")
        written = "(" + result.format(names[id(node.left)], names[id(node.right)])
        if not tests:
            return f"{written})"
        called = "bail()"
        first, second = operands
        if self._is_leaf(first) or not self._passes(first, test):
            again = {id(second): self.value(second), id(first): names[id(first)]}
            if self._is_leaf(first):
                again[id(first)] = self.value(first)
            called = self._called(node, again[id(node.left)], again[id(node.right)])
        return f"{written} if {' and '.join(tests)} else {called})"

    def _passes(self, operand: Expression, test: str) -> bool:
        kind = self._type(operand)
        return (
            (test is _NUMBER and kind in _NUMBERS)
            or (test is _STRING and kind == "string")
            or (test is _DOUBLE and kind == "double")
        )

    def _within(self, operand: Expression, name: str) -> str:
        return f" and {_RANGE.format(name)}" if self._is_raw(operand) else ""

    def _numbers(self, node: Binary) -> str | None:
        """Return a comparison of numbers, unless the operands are known to be something else."""
        kinds = {self._type(node.left), self._type(node.right)}
        if not kinds <= {"int", "double", None} or (node.operator in {"==", "!="} and kinds == {None}):
            return None
        return self._inline(node, _NUMBER, f"{{0}} {node.operator} {{1}}")

    def _strings(self, node: Binary) -> str | None:
        """Return a comparison with a string."""
        kinds = {self._type(node.left), self._type(node.right)}
        if "string" not in kinds or not kinds <= {"string", None} or self.in_macro:
            return None
        return self._inline(node, _STRING, f"{{0}} {node.operator} {{1}}")

    def _words(self, node: Binary) -> str | None:
        """Return a comparison for equality with true, false or null."""
        for word, other in ((node.left, node.right), (node.right, node.left)):
            if not isinstance(word, Literal) or not (word.value is None or isinstance(word.value, bool)):
                continue
            name, text = self.fresh(), self._raw(other)
            checked = f"plain({name}, None)" if self._is_raw(other) else name
            called = self._called(node, checked, repr(word.value))
            if word.value is None:
                return f"({node.operator == '=='} if ({name} := {text}) is None else {called})"
            same = "is" if node.operator == "==" else "is not"
            known = f"({name} := {text}) is True or {name} is False"
            return f"({name} {same} {word.value} if {known} else {called})"
        return None

    def _membership(self, node: Binary) -> str | None:
        """Return whether a string or number is in a list of constants."""
        elements = self.slots.elements(node.right)
        constant = self.slots.constant(node.right)
        if elements is None or constant is None or self.in_macro:
            return None
        numeric = bool(elements) and elements <= _NUMBERS
        name, text = self.fresh(), self._raw(node.left)
        test = _NUMBER if numeric else _STRING
        checked = f"plain({name}, None)" if self._is_raw(node.left) else name
        called = self._called(node, checked, constant[0])
        return f"({name} in {constant[0]} if {test.format(name, text, self._within(node.left, name))} else {called})"

    def _doubles(self, node: Binary) -> str | None:
        """Return arithmetic of doubles."""
        if not {self._type(node.left), self._type(node.right)} <= {"double", None}:
            return None
        return self._inline(node, _DOUBLE, f"{{0}} {node.operator} {{1}}")

    # Calls and macros.

    def call(self, node: Call) -> str:
        """Return the text of a call."""
        template = _INLINE_CALLS.get(node.function)
        if template is not None and not self.in_macro and self.slots.constant_type(node.arguments[1]) == "string":
            argument = node.arguments[1]
            constant = self.slots.pattern(argument) if node.function == "matches" else self.value(argument)
            name = self.fresh()
            written = template.format(name, constant)
            return f"({written} if type({name} := {self._raw(node.arguments[0])}) is str else bail())"
        return super().call(node)

    def macro_name(self, node: Macro) -> str:
        """Return the name of the function that runs a macro of a single test."""
        return _MACRO_NAMES[node.function]


_NUMBER = "type({0} := {1}) is float or type({0}) is int{2}"
_STRING = "type({0} := {1}) is str"
_DOUBLE = "type({0} := {1}) is float"
