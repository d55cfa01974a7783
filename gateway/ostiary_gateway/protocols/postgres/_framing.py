"""Jumps over whole messages of one type, such as the DataRows of a large result. Compiled; also runs as it is.

Every length is checked against the buffer before it is used.
"""

import cython

from ostiary_gateway.protocols.postgres.wire import ProtocolViolation

_MAX_MESSAGE = cython.declare(cython.Py_ssize_t, 0x3FFFFFFF)


def rows_until(data: bytes, position: int, kind: int = 68) -> tuple[int, int]:
    """Behind the last whole message of this type (68 DataRow, 100 CopyData) from `position` on, and how many they are.

    Stops at a message of another type and at one that is not whole. ProtocolViolation if one has a length that none
    can have.
    """
    bytes_at: cython.p_const_uchar = data
    size: cython.Py_ssize_t = len(data)
    at: cython.Py_ssize_t = position
    wanted: cython.Py_ssize_t = kind
    count: cython.Py_ssize_t = 0
    length: cython.Py_ssize_t
    if at < 0:
        raise ValueError("a position before the buffer")
    while at + 5 <= size and bytes_at[at] == wanted:
        length = bytes_at[at + 1]
        length = (length << 8) | bytes_at[at + 2]
        length = (length << 8) | bytes_at[at + 3]
        length = (length << 8) | bytes_at[at + 4]
        if length < 4 or length > _MAX_MESSAGE:
            raise ProtocolViolation(f"the server sent a message {chr(kind)!r} of {length} bytes")
        if length > size - at - 1:
            break
        at += 1 + length
        count += 1
    return at, count
