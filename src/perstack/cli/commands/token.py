"""`perstack token`: a token for a user, and the entry by which a server knows it."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from perstack.cli.terminal import EXIT_SUCCESS, Terminal
from perstack.errors import ConfigError
from perstack.runtime.ports import SystemClock
from perstack.server.auth.scopes import CANCEL_JOBS, READ_JOBS, RUN, RUN_PREFIX


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--principal", required=True, metavar="NAME", help="whom it is for")
    parser.add_argument(
        "--scope",
        action="append",
        metavar="SCOPE",
        help=f"what it allows: {RUN} (the default), {RUN_PREFIX}EXPERT, {READ_JOBS}, "
        f"{CANCEL_JOBS}; repeatable",
    )
    parser.add_argument("--expires", metavar="DATE", help="until when, such as 2027-01-01, by UTC")
    parser.add_argument(
        "--tokens", type=Path, metavar="FILE", help="add the entry to this file of tokens"
    )


def execute(options: Namespace, terminal: Terminal) -> int:
    from perstack.server.auth.token_file import check_token_file, format_entry, generate_token  # noqa: PLC0415 - unlike --help, needs the SDK

    token = generate_token()
    entry = format_entry(
        token,
        options.principal,
        tuple(options.scope or (RUN,)),
        options.expires,
        now_ms=SystemClock().now_ms(),
    )
    if options.tokens is None:
        terminal.info("The token; it is not shown again:")
        terminal.write_line(token)
        terminal.info("Its entry in the file that `perstack serve --tokens FILE` reads:")
        terminal.write_line("\n" + entry.rstrip())
    else:
        if options.tokens.exists():
            check_token_file(options.tokens)
        _append_entry(options.tokens, entry)
        terminal.info(f"{options.tokens} knows it now. The token; it is not shown again:")
        terminal.write_line(token)
    return EXIT_SUCCESS


def _append_entry(path: Path, entry: str) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with open(handle, "a", encoding="utf-8") as file:  # noqa: PTH123 - pathlib makes no file of a mode
            file.write(("\n" if file.tell() else "") + entry)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}.", hint="Name another with --tokens."
        ) from error
