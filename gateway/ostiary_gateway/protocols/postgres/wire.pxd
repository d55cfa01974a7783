# The types of wire.py for the compiled modules.
cimport cython

cdef class Parse:
    cdef public bytes name
    cdef public bytes text
    cdef public tuple types

cdef class Bind:
    cdef public bytes portal
    cdef public bytes statement
    cdef public tuple formats
    cdef public tuple values
    cdef public tuple result_formats

cpdef bytes checked_name(bytes name, str kind)
@cython.locals(middle=Py_ssize_t, end=Py_ssize_t)
cpdef Parse parse_parse(bytes body)
@cython.locals(
    p=cython.p_const_uchar, size=Py_ssize_t, middle=Py_ssize_t, at=Py_ssize_t, count=Py_ssize_t, length=Py_ssize_t
)
cpdef Bind parse_bind(bytes body)
@cython.locals(p=cython.p_const_uchar, size=Py_ssize_t, count=Py_ssize_t, value=Py_ssize_t)
cdef tuple _int16s(bytes body, Py_ssize_t at)
@cython.locals(end=Py_ssize_t)
cpdef tuple parse_target(bytes body, str kind)
@cython.locals(end=Py_ssize_t)
cpdef tuple parse_execute(bytes body)
