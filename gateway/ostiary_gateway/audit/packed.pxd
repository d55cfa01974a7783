# Heads of events as layout.py has them, packed without the interpreter's numbers. Little-endian on every machine.
from libc.stdint cimport uint64_t
from libc.string cimport memcpy


cdef inline char* put(char* to, uint64_t value, int count) noexcept:
    """So many bytes of a number, the lowest first; where they end."""
    cdef int index
    for index in range(count):
        to[index] = <char>((value >> (8 * index)) & 0xFF)
    return to + count


cdef inline char* put_time(char* to, double value) noexcept:
    cdef uint64_t bits
    memcpy(&bits, &value, 8)
    return put(to, bits, 8)


cdef inline bytes event_head(Py_ssize_t size, unsigned long checksum):
    """EVENT."""
    cdef char head[8]
    put(put(head, size, 4), checksum, 4)
    return head[:8]


cdef inline bytes whole_head(
    long long number, double begun, double ended, bytes decision, Py_ssize_t outcome, long long rows, long long size,
    long long response, long long kept, int flags, Py_ssize_t text, Py_ssize_t detail, Py_ssize_t end_detail
):
    """WHOLE."""
    cdef char head[96]
    cdef char* to = head
    if len(decision) != 16:
        raise ValueError("a decision's id has 16 bytes")
    to = put(to, 4, 1)
    to = put(to, number, 8)
    to = put_time(to, begun)
    to = put_time(to, ended)
    memcpy(to, <const char*>decision, 16)
    to = put(to + 16, outcome, 1)
    to = put(to, rows, 8)
    to = put(to, size, 8)
    to = put(to, response, 8)
    to = put(to, kept, 8)
    to = put(to, flags, 1)
    to = put(to, text, 4)
    to = put(to, detail, 4)
    to = put(to, end_detail, 4)
    return head[: to - head]


cdef inline bytes begun_head(long long number, double at, bytes decision, Py_ssize_t text):
    """BEGUN."""
    cdef char head[48]
    cdef char* to = head
    if len(decision) != 16:
        raise ValueError("a decision's id has 16 bytes")
    to = put(to, 2, 1)
    to = put(to, number, 8)
    to = put_time(to, at)
    memcpy(to, <const char*>decision, 16)
    to = put(to + 16, text, 4)
    return head[: to - head]


cdef inline bytes ended_head(
    long long number, double at, Py_ssize_t outcome, long long rows, long long size, long long response,
    long long kept, int flags, Py_ssize_t detail
):
    """ENDED."""
    cdef char head[64]
    cdef char* to = head
    to = put(to, 3, 1)
    to = put(to, number, 8)
    to = put_time(to, at)
    to = put(to, outcome, 1)
    to = put(to, rows, 8)
    to = put(to, size, 8)
    to = put(to, response, 8)
    to = put(to, kept, 8)
    to = put(to, flags, 1)
    to = put(to, detail, 4)
    return head[: to - head]
