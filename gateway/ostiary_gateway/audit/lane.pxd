# The types of lane.py for the compiled modules.
cimport cython

cdef int _NO_SPACE

@cython.final
cdef class Lane:
    cdef int _file
    cdef int _go_read
    cdef int _go_write
    cdef public int ready
    cdef int _ready_write
    cdef bytes _data
    cdef const char* _start
    cdef Py_ssize_t _size
    cdef long long _position
    cdef bint _whole
    cdef int _error
    cdef object _thread

    cdef bint _told(self) noexcept nogil
    cdef void _write(self) noexcept nogil
