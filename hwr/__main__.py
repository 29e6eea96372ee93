"""The program `hwr`. It imports the command line here, so that Ctrl-C at any moment ends it without a traceback."""

import sys


def run() -> None:
    """Run the command line."""
    try:
        from hwr.system import terminal

        terminal.prepare()
        from hwr.cli import main

        main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run()
