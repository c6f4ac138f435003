"""
Counts in messages: ``1 worker accepts``, and never ``1 workers``.
"""


def counted(count: int, one: str, many: str = "") -> str:
    """
    The count and the words that go with it.

    one, many
        the words after 1, and after any other number; ``many`` is ``one`` with an ``s`` by default
    """
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def part(count: int, total: int, noun: str, one: str, many: str) -> str:
    """``1 of 2 workers accepts``: the noun goes with ``total``, and the verb (``one`` or ``many``) with ``count``."""
    return f"{count} of {counted(total, noun)} {one if count == 1 else many}"
