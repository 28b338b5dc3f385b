"""What a reader wrote, run safely: a mishap inside becomes a verdict in words, no traceback."""

from __future__ import annotations

import ast
import inspect
import linecache
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Literal

from widgets.common.strings import say

__all__ = ["Answer", "Stopped", "Verdict", "empty", "right", "run", "told", "unanswered", "wrong"]

Answer = Any  # a number, a function, a class: what the exercise asks for
LIMIT = 5.0  # seconds that the reader's code may take in one call

_NOTHING = {"None", "...", "NotImplemented"}


@dataclass(frozen=True)
class Verdict:
    """What a checker has found: `says` what, and how to `look` further."""

    grade: Literal["right", "wrong", "open"]
    says: str
    look: str = ""


def right(says: str, look: str = "") -> Verdict:
    return Verdict("right", says, look)


def wrong(says: str, look: str = "") -> Verdict:
    return Verdict("wrong", says, look)


def unanswered() -> Verdict:
    return Verdict("open", say("exercise.open"))


class Stopped(BaseException):
    """Leaves a checker with a verdict; a reader's `except Exception` does not catch it."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict


def run(function: Answer, *arguments: Any, owner: Answer = None) -> Any:
    """Call the reader's function; anything but a value ends the check with a verdict.

    Args:
        function: what the reader wrote.
        arguments: what to call it with.
        owner: the reader's class, where `function` is a method or the class itself.
    """
    if not callable(function):
        kind = type(function).__name__
        raise Stopped(wrong(f"A function is asked for, this is of type {kind}."))
    try:
        with _limited(LIMIT):
            value = function(*arguments)
    except NotImplementedError:
        raise Stopped(unanswered()) from None
    except (Exception, SystemExit) as error:
        where = _where(error, function if owner is None else owner)
        raise Stopped(wrong(say("exercise.raised", error=told(error), where=where))) from None
    if value is ... or value is NotImplemented:
        raise Stopped(unanswered())
    return value


def told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": .")


def _where(error: BaseException, function: Answer) -> str:
    """The last line of the reader's own code that the error passed through."""
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    own = getattr(function, "__globals__", None) or vars(module or object)
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_globals is own:
            source = linecache.getline(frame.f_code.co_filename, line).strip()
            return say("exercise.line", line=line, source=source)
    return ""


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Stop what runs inside after a while, where the system can: on Unix, in the main thread."""
    main = threading.current_thread() is threading.main_thread()
    if not (hasattr(signal, "setitimer") and main):
        yield
        return

    def stop(_signal: int, _frame: Any) -> None:
        slow = say("exercise.slow", seconds=seconds)
        raise Stopped(wrong(slow, say("exercise.loop")))

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.05)  # again: a bare except may swallow it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def empty(answer: Answer) -> bool:
    """Whether nothing was written yet: None, ..., or by its source, a body of nothing else.

    >>> def f(x): ...
    >>> empty(f), empty([1, ...]), empty(0)
    (True, True, False)
    """
    if answer is None or answer is ... or answer is NotImplemented:
        return True
    if isinstance(answer, tuple | list):
        return any(empty(part) for part in answer)
    if isinstance(answer, type):
        methods = [m for name, m in vars(answer).items() if not name.startswith("__")]
        return any(empty(m) for m in methods if callable(m))
    answer = inspect.unwrap(answer) if callable(answer) else answer
    if not isinstance(answer, FunctionType):
        return False
    bodies = _bodies(answer)
    return bool(bodies) and all(_does_nothing(statement) for body in bodies for statement in body)


def _bodies(function: FunctionType) -> list[list[ast.stmt]]:
    """Of the functions of its name that begin in its line: several lambdas may; none if unread."""
    code = function.__code__
    place = (code.co_name, code.co_firstlineno)
    try:
        tree = ast.parse("".join(linecache.getlines(code.co_filename, function.__globals__)))
    except SyntaxError:
        return []
    bodies: list[list[ast.stmt]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) and ("<lambda>", node.lineno) == place:
            bodies.append([ast.Return(node.body)])
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            line = min(part.lineno for part in (node, *node.decorator_list))
            if (node.name, line) == place:
                bodies.append(node.body)
    return bodies


def _does_nothing(statement: ast.stmt) -> bool:
    """Whether it is pass, a mere constant such as the docstring, or returns nothing."""
    if isinstance(statement, ast.Return):
        return statement.value is None or ast.unparse(statement.value) in _NOTHING
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant or isinstance(statement, ast.Pass)
