"""Errors that the command line turns into an exit code and one message."""


class ServerError(Exception):
    """A server could not be installed, started or stopped."""

    exit_code = 1


class CannotInstallError(ServerError):
    """The server cannot be installed on this machine or by this user."""

    exit_code = 3


class NotInstalledError(ServerError):
    """The server's programs are not on this machine."""

    exit_code = 4
