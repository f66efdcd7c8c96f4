"""The one exception that ends a run with a sentence instead of a traceback."""


class HTCLError(Exception):
    """A failure that its reader can mend: the message names the thing and the way out."""


class Interrupted(Exception):  # noqa: N818  (no error)
    """The run was asked to end; what is done is in a checkpoint, and it goes on when it is started again."""
