# The types of masks.py for the compiled modules.

cdef class RowMasks:
    cdef tuple _valid_for
    cdef dict _kept

    cpdef find(self, bytes description, str text)
    cpdef keep(self, bytes description, str text, object mask)

cdef class ResponseMask:
    cdef object _analysis
    cdef object _copy
    cdef object _copy_fields
    cdef RowMasks _kept
    cdef object _plan
    cdef object _rows
    cdef object _targets
    cdef object _withhold
    cdef public bint active

    cpdef describe(self, object body, Py_ssize_t index)
    cpdef bytes rows(self, bytes frames)
    cpdef bytes copy(self, bytes frames)
    cpdef bytes finish(self)
