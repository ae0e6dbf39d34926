"""The ``afp`` program, also as ``python -m afp``."""

import signal


def main() -> None:
    """Run the command line."""
    # Until it is imported and takes over, Ctrl-C ends the program without a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from afp.cli import main as run

    run()


if __name__ == "__main__":
    main()
