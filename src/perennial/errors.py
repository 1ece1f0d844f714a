"""The one error a user is meant to read."""


class UserError(Exception):
    """What is wrong and how to mend it, in words a newcomer can act on.

    The command line prints the text without a traceback and exits with 1.
    """

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(f"{problem}\n  Fix: {fix}" if fix else problem)
