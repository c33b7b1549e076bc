"""A token that is not accepted."""


class TokenRefusedError(Exception):
    """Why a token is not accepted: for the log, never for whoever sent it, and free of the token.

    Not one of perstack's own errors, because no user is told.
    """
