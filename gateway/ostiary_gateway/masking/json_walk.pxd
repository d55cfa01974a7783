# The attributes as plain C, and what the walk calls without Python in between.

cdef int _VALUE, _FIRST_VALUE, _KEY, _FIRST_KEY, _COLON, _NEXT, _NORMAL, _QUOTE, _BACKSLASH, _CONTROL, _MAX_DEPTH

cdef class State:
    cdef public object make
    cdef public bint acts
    cdef public bint alive
    cdef public bint filtered
    cdef public tuple names
    cdef public list targets
    cdef public State other
    cdef public State element
    cdef public dict indices
    cdef public object tags
    cdef public object positions
    cdef State of_name(self, bytes data, Py_ssize_t begin, Py_ssize_t end)
    cdef State of_index(self, Py_ssize_t index)

cdef class Walker:
    cdef public object editor
    cdef object finder
    cdef State dead
    cdef bint numbers
    cdef bint any_escape
    cdef bint odd
    cdef bytes _kept
    cdef const unsigned char* _classes
    cdef Py_ssize_t string(self, const unsigned char* data, Py_ssize_t at, Py_ssize_t end) except? -2
    cdef Py_ssize_t scalar(self, const unsigned char* data, Py_ssize_t at, Py_ssize_t end) except? -2
    cdef Py_ssize_t _end_of(self, bytes data, Py_ssize_t at, Py_ssize_t end) except? -2
    cdef list _walk(self, bytes data, Py_ssize_t begin, Py_ssize_t end, State root, bint several)
    cdef bint has_escape(self, const unsigned char* data, Py_ssize_t at, Py_ssize_t end) noexcept
    cdef bint has_exponent(self, const unsigned char* data, Py_ssize_t at, Py_ssize_t end) noexcept
    cdef State odd_member(self, bytes data, Py_ssize_t at, Py_ssize_t close, Py_ssize_t end, State parent)
    cdef State next_element(self, bytes data, Py_ssize_t at, Py_ssize_t end, State parent, Py_ssize_t index)
