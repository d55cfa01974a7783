# The types of questions.py for the compiled modules.
cimport cython

from ostiary_gateway.checkpoint cimport Verdict

from .state cimport Portal, Prepared

@cython.final
@cython.freelist(16)
cdef class Ask:
    cdef public object stage
    cdef public str text
    cdef public bytes raw
    cdef public Prepared statement
    cdef public Portal portal
    cdef public object outside

@cython.final
@cython.freelist(16)
cdef class Admission:
    cdef public Verdict verdict
    cdef public object analysis
    cdef public object denial
    cdef public object mask
    cdef public bint needs_description
    cdef public bint by_origin
    cdef public bint decides_next
    cdef public bint plain
    cdef public bint ask_outside
