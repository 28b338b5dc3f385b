"""The `minillm` command: one module per subcommand, imported when it is asked for.

A subcommand's module offers `add_arguments(parser)` and `run(arguments)`. Bad input is a ValueError
or an OSError there (a missing file, a full disk); here it becomes one line on stderr and exit
code 2. A module whose parser has a default `rest` is handed there what its parser does not know.
"""

import argparse
import io
import os
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

from minillm.threads import thread_settings

__all__ = ["main"]

_COMMANDS = {
    "lab": ("minillm.commands.lab", "open the lessons in JupyterLab"),
    "handout": ("minillm.commands.handout", "copy the lessons to a folder"),
    "generate": ("minillm.commands.generate", "write text, and report its speed"),
    "fetch": ("minillm.commands.fetch", "download a public model"),
    "models": ("minillm.commands.models", "list the shipped models"),
    "train": ("minillm.commands.train", "train a model on a text file"),
    "sample": ("minillm.commands.sample", "write texts with a model, to train another on"),
    "eval": ("minillm.commands.eval", "how well a model predicts a text, and accepts a draft"),
    "kbit": (
        "minillm.commands.kbit",
        "few weights in many bits, or many in few: a family's loss by its bits",
    ),
    "formats": ("minillm.commands.formats", "what each format stores, costs in loss, and takes"),
    "hypothesis": ("minillm.commands.hypothesis", "do more tokens make rounding cost more"),
    "findings": ("minillm.commands.findings", "the course's findings on any model"),
    "bench": ("minillm.commands.bench", "measure what each trick gains on this machine"),
    "notebooks": (
        "minillm.commands.notebooks",
        "re-execute the lessons, or tell their cost",
    ),
    "lecture": ("minillm.commands.lecture", "a lesson as slides"),
    "site": ("minillm.commands.site", "write the lessons as pages that need no kernel"),
}


class _Parser(argparse.ArgumentParser):
    """argparse, but an error is a ValueError like any other bad input."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def main(argv: list[str] | None = None) -> int:
    """Run a subcommand; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  (closed by the shell: >&-)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # of what its encoding does not have
    parser = _Parser(prog="minillm", description="How LLMs are made fast.")
    parser.add_argument("--version", action="version", version=f"minillm {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, text) in _COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    prog = "minillm"
    try:
        command = parser.parse_args(argv[:1] or ["--help"]).command
        prog = f"minillm {command}"
        code = _run(prog, *_COMMANDS[command], argv[1:])
        sys.stdout.flush()  # a closed pipe shows here, not when the interpreter ends
    except BrokenPipeError:  # the reader has seen enough: `minillm generate ... | head -1`
        _discard_stdout()
        return 128 + 13  # as if ended by SIGPIPE
    except (ValueError, OSError) as error:
        print(f"{prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 128 + 2  # as if ended by SIGINT
    return code


def _run(prog: str, module: str, description: str, argv: list[str]) -> int:
    """Parse a subcommand's arguments and run it; a `run` without an exit code means 0."""
    if "torch" not in sys.modules:
        os.environ.update(thread_settings(os.environ))
    implementation = import_module(module)
    parser = _Parser(prog=prog, description=description, allow_abbrev=False)
    implementation.add_arguments(parser)
    arguments, rest = parser.parse_known_args(argv)
    if "rest" in arguments:
        arguments.rest = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return implementation.run(arguments) or 0


def _version() -> str:
    try:
        return version("minillm")
    except PackageNotFoundError:
        return "(not installed)"


def _discard_stdout() -> None:
    """Let what is still buffered go nowhere, so that the interpreter ends quietly."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
