"""``clippy``, the command, and ``python -m clippy_cli``, the same."""

import signal


def entry() -> None:
    """Run the command line as a process; until that has begun there is nothing to wind up, and Ctrl-C just ends it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored by whoever started this
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from clippy_cli.main import entry

    entry()


if __name__ == "__main__":
    entry()
