"""The `minillm` command: one module per subcommand, imported when it is asked for.

A subcommand's module offers `add_arguments(parser)` and `run(arguments)`. Bad input is a ValueError
or a FileNotFoundError there; here it becomes one line on stderr and exit code 2.
"""

import argparse
import sys
from importlib import import_module

__all__ = ["main"]

_COMMANDS = {
    "lab": ("minillm.lab", "open the lessons in JupyterLab"),
    "generate": ("minillm.generate", "write text, and report its speed"),
    "models": ("minillm.models", "list the shipped models"),
    "train": ("minillm.train", "train a model on a text file"),
    "bench": ("minillm.bench", "measure what each trick gains on this machine"),
    "notebooks": ("minillm.notebooks_command", "re-execute the lessons in place"),
}


def main(argv: list[str] | None = None) -> int:
    """Run a subcommand; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="minillm", description="How LLMs are made fast.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, text) in _COMMANDS.items():
        commands.add_parser(name, help=text, description=text, add_help=False)
    command = parser.parse_known_args(argv[:1])[0].command
    module, text = _COMMANDS[command]
    own = argparse.ArgumentParser(prog=f"minillm {command}", description=text)
    implementation = import_module(module)
    implementation.add_arguments(own)
    try:
        implementation.run(own.parse_args(argv[1:]))
    except (ValueError, FileNotFoundError) as error:
        print(f"minillm {command}: error: {error}".replace("\n", " "), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
