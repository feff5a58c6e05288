"""The bytes of a successful Export*ServiceResponse in, the receipt of its request out."""

from receiver.export.request import Receipt, Request
from receiver.export.walk import fields, signed

_MESSAGE_MAX = 1024  # characters of the destination's message that are kept


def read_answer(data: bytes, request: Request) -> Receipt:
    """How many of the request's items the destination took.

    A partial_success that is there and empty is full success: that is how the Collector answers. An answer that cannot
    be read came with the status OK, so the request counts as taken, with a message that says so.
    """
    rejected, message = 0, ""
    try:
        for number, partial in fields(data):
            if number == 1 and isinstance(partial, bytes):
                for inner, value in fields(partial):
                    if inner == 1 and isinstance(value, int):
                        rejected = signed(value)
                    elif inner == 2 and isinstance(value, bytes):  # noqa: PLR2004 - error_message
                        message = value[: 4 * _MESSAGE_MAX].decode("utf-8", "replace")[:_MESSAGE_MAX]
    except ValueError as error:
        return Receipt(request.items, 0, f"The answer cannot be read ({error}).")
    rejected = min(max(rejected, 0), request.items)
    return Receipt(request.items - rejected, rejected, message)
