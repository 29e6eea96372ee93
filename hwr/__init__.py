"""Turns photographed handwriting into text."""

__version__ = "0.1.0"


class Error(Exception):
    """Something the user can put right: the message names the file, line or key, and says what would be right.

    The command line prints the message alone and exits with status 2.
    """
