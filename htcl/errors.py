"""The one exception that ends a run with a sentence instead of a traceback."""


class HTCLError(Exception):
    """A failure that its reader can mend: the message names the thing and the way out."""
