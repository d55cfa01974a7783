# The types of checkpoint.py for the compiled modules.

cdef class Verdict:
    cdef public object decision
    cdef public long long number
    cdef public str session
    cdef public object standing
