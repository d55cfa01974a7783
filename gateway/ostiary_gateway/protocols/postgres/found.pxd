# The types of found.py for the compiled modules.

cdef class Found:
    cdef public object policies
    cdef public object scope
    cdef public object generation
    cdef public object analysis
    cdef public object decision
    cdef public bint any_literals
    cdef public bint plain
    cdef public int bearing
    cdef public bint needs_description
    cdef public object plan
    cdef public object targets
    cdef public object withhold
    cdef public object row_masks
    cdef public bint by_origin
