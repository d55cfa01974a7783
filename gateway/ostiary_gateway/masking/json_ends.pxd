# The state between two pieces as plain C.

cdef class Ends:
    cdef Py_ssize_t depth
    cdef bint in_string
    cdef bint escaped
    cdef Py_ssize_t stop(self, const unsigned char* data, Py_ssize_t at, Py_ssize_t end) noexcept
