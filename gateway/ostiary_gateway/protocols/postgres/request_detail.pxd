# The types of request_detail.py for the compiled modules.
cimport cython

from .questions cimport Ask
from .state cimport Portal, Prepared
from .wire cimport Bind

cdef object _RUN

@cython.locals(statement=Prepared, portal=Portal, bind=Bind)
cpdef of_request(Ask ask, bint full)
@cython.locals(statement=Prepared, portal=Portal, plain=bytes)
cpdef encoded(Ask ask, bint full)
cpdef of_end(list tags, tuple error)
cdef Py_ssize_t MAX_PLAIN
cdef bytes NONE

@cython.locals(
    p=cython.p_const_uchar, head=bytes, pieces=list, size=Py_ssize_t, at=Py_ssize_t, formats=Py_ssize_t,
    count=Py_ssize_t, index=Py_ssize_t, length=Py_ssize_t, _=Py_ssize_t,
)
cdef bytes _plain(bytes name, bytes bind)
@cython.locals(p=cython.p_const_uchar, index=Py_ssize_t)
cdef bint _unescaped(bytes data, Py_ssize_t start, Py_ssize_t stop) except -1
