# The types of inbox.py for the compiled modules.
cimport cython

cdef class Inbox:
    cdef public long long limit
    cdef public long long discarded
    cdef public bytes data
    cdef public int kind
    cdef public Py_ssize_t start
    cdef public Py_ssize_t stop
    cdef public bint oversized
    cdef Py_ssize_t _position
    cdef bytearray _more
    cdef long long _discarding
    cdef long long _passing

    cpdef feed(self, bytes data)
    @cython.locals(p=cython.p_const_uchar, position=Py_ssize_t, kind=int, length=Py_ssize_t)
    cpdef bint next(self) except -1
    cdef _check(self, int kind)
    cdef bint _join(self, Py_ssize_t need) except -1
    cdef Py_ssize_t _available(self) except -1
    @cython.locals(step=Py_ssize_t)
    cdef bint _pass_on(self) except -1
    cdef bint _over(self, int kind, Py_ssize_t length) except -1
    @cython.locals(step=Py_ssize_t)
    cdef bint _discard(self) except -1
