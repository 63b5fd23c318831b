"""What the sandbox has of Python, found out by trying: a test compares these tables with the sandbox itself."""

from __future__ import annotations

import ast
import re

UNSUPPORTED: dict[type[ast.AST], str] = {
    ast.Yield: "`yield` is",
    ast.YieldFrom: "`yield from` is",
    ast.Delete: "the statement `del` is",
    ast.TryStar: "`except*` is",
    ast.AsyncFor: "`async for` is",
    ast.AsyncWith: "`async with` is",
}
"""Syntax that the sandbox does not run, and how to say so."""

MODULES = frozenset(
    re.findall(
        r"\w+",
        """
    asyncio base64 binascii bisect collections copy csv dataclasses datetime decimal functools hashlib itertools json
    math os pathlib random re sys time tomllib typing unicodedata
        """,
    )
)
"""Modules that can be imported; what would reach out of the sandbox fails when it is called."""

BUILTINS = frozenset(
    re.findall(
        r"\w+",
        """
    ArithmeticError AssertionError AttributeError BaseException Ellipsis Exception False FileExistsError
    FileNotFoundError ImportError IndexError IsADirectoryError KeyError KeyboardInterrupt LookupError MemoryError
    ModuleNotFoundError NameError None NotADirectoryError NotImplemented NotImplementedError OSError OverflowError
    PermissionError RecursionError RuntimeError StopIteration SyntaxError SystemExit TimeoutError True TypeError
    UnboundLocalError UnicodeDecodeError UnicodeEncodeError ValueError ZeroDivisionError __debug__ __doc__ __file__
    __name__ __package__ __spec__ abs all any bin bool bytes chr complex dict divmod enumerate eval exec filter float
    format frozenset getattr hasattr hash hex id int isinstance iter len list locals map max min next object oct open
    ord pow print property range repr reversed round set setattr slice sorted str sum tuple type zip
        """,
    )
)
"""Built-in names that exist in the sandbox."""
