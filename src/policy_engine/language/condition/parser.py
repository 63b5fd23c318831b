"""From tokens to the syntax tree: recursive descent, one method for each level of precedence."""

from __future__ import annotations

from policy_engine.language.condition.errors import ConditionError
from policy_engine.language.condition.function import FUNCTIONS, MACROS, UNSUPPORTED
from policy_engine.language.condition.lexer import INT64_MAX, RESERVED, Token
from policy_engine.language.condition.syntax import (
    Binary,
    Call,
    Expression,
    Has,
    Index,
    ListLiteral,
    Literal,
    Logical,
    Macro,
    MapLiteral,
    Path,
    Select,
    Ternary,
    Unary,
    Variable,
)
from policy_engine.language.suggest import did_you_mean

MAX_DEPTH = 32

_RELATIONS = frozenset({"<", "<=", ">", ">=", "==", "!=", "in"})
_SUMS = frozenset({"+", "-"})
_PRODUCTS = frozenset({"*", "/", "%"})
_WORDS = {"true": True, "false": False, "null": None}


def too_deep(source: str, offset: int) -> ConditionError:
    """Return the error for what nests too deep."""
    return ConditionError(f"a condition nests at most {MAX_DEPTH} deep", source=source, offset=offset)


class Parser:
    """The state of one parse.

    Attributes:
        mixes_and_or: Whether AND and OR have been met beside each other without parentheses.
    """

    def __init__(self, source: str, tokens: list[Token]) -> None:
        self._source = source
        self._tokens = tokens
        self._position = 0
        self._token = tokens[0]
        self._depth = 0
        self._variables: list[str] = []
        self.mixes_and_or = False

    def parse(self) -> Expression:
        """Return the tree of the whole condition; raise ConditionError."""
        root = self._expression()
        if self._token.kind != "end":
            raise self._unexpected("the end of the condition")
        return root

    # Moving through the tokens.

    def _next(self) -> Token:
        token = self._token
        if token.kind != "end":
            self._position += 1
            self._token = self._tokens[self._position]
        return token

    def _accept(self, kind: str) -> bool:
        if self._token.kind != kind:
            return False
        self._next()
        return True

    def _expect(self, kind: str, what: str | None = None) -> Token:
        if self._token.kind != kind:
            raise self._unexpected(what or f"`{kind}`")
        return self._next()

    def _error(self, message: str, offset: int, hint: str | None = None) -> ConditionError:
        return ConditionError(message, source=self._source, offset=offset, hint=hint)

    def _unexpected(self, expected: str) -> ConditionError:
        token = self._token
        found = "the end" if token.kind == "end" else f"`{token.text}`"
        hint = None
        if token.kind == "NOT":
            hint = "write `!`, or put `NOT ...` in parentheses"
        elif token.kind == "?":
            hint = "optional values (`?.`, `[?`) are not supported"
        elif token.kind == "name" and token.text.lower() in {"and", "or", "not"}:
            hint = f"did you mean `{token.text.upper()}`?"
        return self._error(f"expected {expected}, found {found}", token.offset, hint)

    # The levels of precedence, loosest first.

    def _expression(self) -> Expression:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise too_deep(self._source, self._token.offset)
        condition = self._or()
        if self._accept("?"):
            then = self._or()
            self._expect(":")
            otherwise = self._expression()
            condition = Ternary(offset=condition.offset, condition=condition, then=then, otherwise=otherwise)
        self._depth -= 1
        return condition

    def _or(self) -> Expression:
        operands: list[Expression] = []
        chains = False
        while True:
            operand, is_chain = self._and()
            chains = chains or is_chain
            operands.append(operand)
            if not self._accept("||"):
                break
        if len(operands) == 1:
            return operands[0]
        self.mixes_and_or = self.mixes_and_or or chains
        return _logical("||", operands)

    def _and(self) -> tuple[Expression, bool]:
        operands = [self._not()]
        while self._accept("&&"):
            operands.append(self._not())
        if len(operands) == 1:
            return operands[0], False
        return _logical("&&", operands), True

    def _not(self) -> Expression:
        negations = []
        while self._token.kind == "NOT":
            negations.append(self._next())
        operand = self._relation()
        for token in reversed(negations):
            operand = Unary(offset=token.offset, operator="!", operand=operand)
        return operand

    def _relation(self) -> Expression:
        left = self._sum()
        while self._token.kind in _RELATIONS:
            operator = self._next().kind
            left = Binary(offset=left.offset, operator=operator, left=left, right=self._sum())
        return left

    def _sum(self) -> Expression:
        left = self._product()
        while self._token.kind in _SUMS:
            operator = self._next().kind
            left = Binary(offset=left.offset, operator=operator, left=left, right=self._product())
        return left

    def _product(self) -> Expression:
        left = self._unary()
        while self._token.kind in _PRODUCTS:
            operator = self._next().kind
            left = Binary(offset=left.offset, operator=operator, left=left, right=self._unary())
        return left

    def _unary(self) -> Expression:
        operators = []
        while self._token.kind in {"!", "-"}:
            operators.append(self._next())
        if operators and operators[-1].kind == "-" and self._token.kind in {"int", "double"}:
            operand = self._postfix(self._number(operators.pop()))
        else:
            operand = self._postfix(self._primary())
        for token in reversed(operators):
            operand = Unary(offset=token.offset, operator=token.kind, operand=operand)
        return operand

    def _number(self, minus: Token | None) -> Literal:
        token = self._next()
        value = token.value
        if not isinstance(value, (int, float)):  # pragma: no cover - the lexer gives numbers their value
            raise self._error(f"malformed number `{token.text}`", token.offset)
        if minus is not None:
            return Literal(offset=minus.offset, value=-value)
        if token.kind == "int" and value > INT64_MAX:
            raise self._error(f"the integer `{token.text}` does not fit into 64 bits", token.offset)
        return Literal(offset=token.offset, value=value)

    def _postfix(self, operand: Expression) -> Expression:
        while True:
            if self._accept("."):
                operand = self._member(operand)
            elif self._accept("["):
                index = self._expression()
                self._expect("]")
                operand = Index(offset=operand.offset, operand=operand, index=index)
            elif self._token.kind == "{" and isinstance(operand, (Path, Variable)):
                raise self._error("message literals are not supported", operand.offset, 'write a map, `{"key": value}`')
            else:
                return operand

    def _member(self, operand: Expression) -> Expression:
        name = self._expect("name", "a name after `.`")
        if self._token.kind != "(":
            return Select(offset=operand.offset, operand=operand, field=name.text)
        self._next()
        if name.text in MACROS:
            return self._macro(operand, name)
        arguments = (operand, *self._items(")"))
        self._check_call(name, arguments, method=True)
        return Call(offset=operand.offset, function=name.text, arguments=arguments, method=True)

    def _primary(self) -> Expression:
        token = self._token
        match token.kind:
            case "int" | "double":
                return self._number(None)
            case "string":
                self._next()
                return Literal(offset=token.offset, value=token.value)
            case "true" | "false" | "null":
                self._next()
                return Literal(offset=token.offset, value=_WORDS[token.kind])
            case "name":
                return self._name()
            case "(":
                self._next()
                inner = self._expression()
                self._expect(")")
                return inner
            case "[":
                self._next()
                return ListLiteral(offset=token.offset, items=self._items("]"))
            case "{":
                self._next()
                return self._map(token)
        raise self._unexpected("an expression")

    # Names, calls, literals.

    def _name(self) -> Expression:
        token = self._next()
        if token.text in RESERVED:
            raise self._error(f"`{token.text}` is a reserved word", token.offset)
        if self._token.kind == "(":
            self._next()
            return self._call(token)
        if token.text in self._variables:
            return Variable(offset=token.offset, name=token.text)
        segments = [token.text]
        while self._token.kind == "." and self._peek_is_field():
            self._next()
            segments.append(self._next().text)
        return Path(offset=token.offset, segments=tuple(segments))

    def _peek_is_field(self) -> bool:
        following = self._tokens[self._position + 1 : self._position + 3]
        return following[0].kind == "name" and following[1].kind != "("

    def _call(self, name: Token) -> Expression:
        if name.text == "has":
            return self._has(name)
        arguments = self._items(")")
        if name.text in MACROS:
            raise self._error(f"`{name.text}` is called as `x.{name.text}(...)`", name.offset)
        self._check_call(name, arguments, method=False)
        return Call(offset=name.offset, function=name.text, arguments=arguments, method=False)

    def _has(self, name: Token) -> Expression:
        arguments = self._items(")")
        if len(arguments) != 1:
            raise self._error("`has` takes one argument", name.offset)
        operand = arguments[0]
        if isinstance(operand, Path) and len(operand.segments) == 1:
            message = f"`has` takes a field, `has(a.b)`, not a single name `{operand.dotted}`"
            raise self._error(message, operand.offset)
        if not isinstance(operand, (Path, Select)):
            raise self._error("`has` takes a field, `has(a.b)`", operand.offset)
        return Has(offset=name.offset, operand=operand)

    def _macro(self, operand: Expression, name: Token) -> Expression:
        variable = self._expect("name", f"the name of a variable in `{name.text}`")
        if variable.text in RESERVED:
            raise self._error(f"`{variable.text}` is a reserved word", variable.offset)
        if self._token.kind != ",":
            raise self._unexpected(f"`,` after the variable of `{name.text}`")
        self._next()
        self._variables.append(variable.text)
        arguments = self._items(")")
        self._variables.pop()
        if len(arguments) + 1 not in MACROS[name.text]:
            counts = " or ".join(str(count) for count in MACROS[name.text])
            raise self._error(f"`{name.text}` takes {counts} arguments, found {len(arguments) + 1}", name.offset)
        predicate = arguments[0] if len(arguments) > 1 else None
        body = arguments[-1]
        if name.text == "filter":
            predicate, body = body, Variable(offset=variable.offset, name=variable.text)
        return Macro(
            offset=operand.offset,
            function=name.text,
            range=operand,
            variable=variable.text,
            body=body,
            predicate=predicate,
        )

    def _items(self, closing: str) -> tuple[Expression, ...]:
        items: list[Expression] = []
        while self._token.kind != closing:
            items.append(self._expression())
            if not self._accept(","):
                break
            if closing == ")" and self._token.kind == closing:
                raise self._unexpected("an expression")
        self._expect(closing, f"`,` or `{closing}`")
        return tuple(items)

    def _map(self, brace: Token) -> Expression:
        entries: list[tuple[Expression, Expression]] = []
        keys: set[str] = set()
        while self._token.kind != "}":
            key = self._expression()
            if isinstance(key, Literal):
                if not isinstance(key.value, str):
                    raise self._error("the key of a map is a string", key.offset)
                if key.value in keys:
                    raise self._error(f"the key `{key.value}` is there twice", key.offset)
                keys.add(key.value)
            self._expect(":")
            entries.append((key, self._expression()))
            if not self._accept(","):
                break
        self._expect("}", "`,` or `}`")
        return MapLiteral(offset=brace.offset, entries=tuple(entries))

    def _check_call(self, name: Token, arguments: tuple[Expression, ...], *, method: bool) -> None:
        function = FUNCTIONS.get(name.text)
        if function is None:
            raise self._unknown_function(name)
        if ("method" if method else "function") not in function.forms:
            raise self._error(f"`{name.text}` is called as `{function.usage}`", name.offset)
        most = len(function.parameters)
        if not most - function.optional <= len(arguments) <= most:
            hint = f"it is called as `{function.usage}`"
            raise self._error(f"wrong number of arguments for `{name.text}`", name.offset, hint)

    def _unknown_function(self, name: Token) -> ConditionError:
        if name.text in UNSUPPORTED:
            return self._error(UNSUPPORTED[name.text], name.offset)
        hint = did_you_mean(name.text, [*FUNCTIONS, *MACROS, "has"])
        return self._error(f"unknown function `{name.text}`", name.offset, hint or None)


def _logical(operator: str, operands: list[Expression]) -> Logical:
    flat: list[Expression] = []
    for operand in operands:
        if isinstance(operand, Logical) and operand.operator == operator:
            flat.extend(operand.operands)
        else:
            flat.append(operand)
    return Logical(offset=operands[0].offset, operator=operator, operands=tuple(flat))
