"""The console command `spat_nb`: one module of `commands` for each of its commands

A module is imported when its command is asked for, so that `spat_nb --help` is quick
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import sys
import textwrap

COMMANDS = {
    "tour": "One minute: train, attack, compare.",
    "train": "Train a network, judge it, write both.",
    "evaluate": "Attack a trained network, and say what stands.",
    "gate": "Fail where robust accuracy has fallen against a baseline: for build servers.",
    "diagnose": "Look at a trained network class by class: who falls, and to whom.",
    "methods": "Show the table of slots: every method, and the specs that it sets.",
    "compare": "Set two judgements against each other, image by image.",
    "study": "List studies, run what is missing, show tables and plots.",
    "zoo": "List the networks that come with the package, show a card, ship one.",
    "data": "Download data sets into the data folder.",
    "lab": "Open JupyterLab on a copy of the notebooks.",
    "grade": "Judge the exercises of all hand-ins in a folder.",
    "doctor": "Say what this machine lacks, and the command that mends it.",
}
SHELLS = ("bash", "zsh", "tcsh")
# what a user can mend is said in one sentence
MENDABLE = (ValueError, TypeError, KeyError, OSError, FloatingPointError, ImportError)


class Parser(argparse.ArgumentParser):
    "Says in one sentence which flag is wrong; `flags` is what it has, by the name of its value"

    def add_argument(self, *names, **kw):
        action = super().add_argument(*names, **kw)
        if action.option_strings and kw.get("help") is not argparse.SUPPRESS:
            self.flags[action.dest] = action.option_strings[0]
        return action

    @functools.cached_property
    def flags(self) -> dict:
        return {}

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}; {self.prog} --help tells more\n")


class Completion(argparse.Action):
    "Prints what a shell needs to complete our words"

    def __call__(self, parser, namespace, shell, option_string=None):
        try:
            import shtab
        except ImportError:
            from .lab import PIP

            parser.exit(1, f'spat_nb: shtab is not installed; run: {PIP} "spat_nb[completion]"\n')
        print(shtab.complete(build_parser(COMMANDS), shell=shell), flush=True)
        parser.exit()


def command(
    name: str,  # key of `COMMANDS`
):
    "The module of a command"
    return importlib.import_module(f"spat_nb.app.commands.{name}")


def _filled(parser, name):
    "Give the parser of a command its flags, and what its help says"
    module = command(name)
    module.add(parser)
    parser.set_defaults(run=module.run, flags=parser.flags)
    parser.description = textwrap.fill(" ".join(module.__doc__.split()), 78)
    parser.epilog = f"Example: {module.EXAMPLE}"
    if getattr(module, "MORE", ""):
        parser.epilog += f"\n{textwrap.fill(module.MORE, 78)}"


def build_parser(
    asked=(),  # names of commands whose flags are needed
) -> argparse.ArgumentParser:
    "The parser; a command that is not asked for has its name and its line in the help alone"
    import spat_nb

    parser = Parser("spat_nb", description="Adversarial robustness: learn it, use it, judge it.")
    parser.add_argument("--version", action="version", version=spat_nb.__version__)
    parser.add_argument(
        "--print-completion",
        action=Completion,
        choices=SHELLS,
        help="Print what this shell needs to complete our words, and stop.",
    )
    sub = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, line in COMMANDS.items():
        raw = argparse.RawDescriptionHelpFormatter
        one = sub.add_parser(name, help=line, formatter_class=raw)
        if name in asked:
            _filled(one, name)
    return parser


def said(
    error,  # that a command raised
    flags: dict,  # name of a value -> the flag as it is typed
) -> str:
    "An error in one sentence; where it begins with the name of a flag, as the flag is typed"
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    first, blank, rest = text.partition(" ")
    flag = flags.get(first.rstrip(":"))
    if flag is None:
        return text
    return f"{flag}{':' if first.endswith(':') else ''}{blank}{rest}"


def _printable():
    r"Let a console of another code page print what it cannot show as \u732b"
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def main(argv=None) -> int:
    "Run a command; its status"
    _printable()
    try:
        return _call(sys.argv[1:] if argv is None else list(argv))
    except BrokenPipeError:  # the reader has gone, `| head` say: nothing to complain of
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as of a process that the signal ended


def _call(words):
    "Read the words, and do what they say"
    asked = [w for w in words if w in COMMANDS][:1]
    parser = build_parser(asked)
    a, more = parser.parse_known_args(words)
    a.more = more
    a.words = words
    passes_on = a.command == "lab" and all(m.startswith("--") and "=" in m for m in a.more)
    if a.more and not passes_on:
        parser.error(f"unrecognized arguments: {' '.join(a.more)}")
    try:
        status = a.run(a)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except MENDABLE as e:
        print(f"spat_nb {a.command}: {said(e, a.flags)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from where it was", file=sys.stderr)
        return 130
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    sys.exit(main())
