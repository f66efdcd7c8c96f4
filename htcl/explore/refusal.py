"""What a visitor of the page did wrong, in a sentence that the page shows."""

from htcl.errors import HTCLError


class Refusal(HTCLError):  # noqa: N818  (as AudioRejected)
    """A request that cannot be answered; `status` is the HTTP status of the answer."""

    def __init__(self, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.status = status
