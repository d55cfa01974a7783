# What the masks of rows and of COPY share.

from ostiary_gateway.masking.candidates cimport Candidates
from ostiary_gateway.masking.scan cimport Finder

cdef int _NOTHING, _TEXT, _ALWAYS, _LOOSE, _WEAK
cdef int _WHOLE_NUMBER, _NUMERIC, _FLOAT8, _PATTERNS, _ESCAPED

cdef class Show:
    cdef int mode
    cdef Py_ssize_t keep_first
    cdef Py_ssize_t keep_last
    cdef int char
    cdef bytes constant
    cdef object mask

cdef class Cells(Finder):
    cdef bytes _data
    cdef const unsigned char* _at
    cdef Py_ssize_t _size
    cdef bytearray _out
    cdef unsigned char* _to
    cdef Py_ssize_t _room
    cdef Py_ssize_t _written
    cdef Py_ssize_t _copied
    cdef Py_ssize_t _cell_out
    cdef Py_ssize_t _columns
    cdef bytes _kinds
    cdef list _masks
    cdef bint _cards
    cdef bint _mails
    cdef bint _each
    cdef bint _full
    cdef Candidates _others
    cdef bint _has_others
    cdef bytearray _unreported
    cdef object _report
    cdef object _searcher
    cdef object _search
    cdef Show _card_show
    cdef Show _mail_show
    cdef Py_ssize_t _next_card
    cdef Py_ssize_t _next_mail
    cdef Py_ssize_t _next_other
    cdef Py_ssize_t _next_found
    cdef int open(self, bytes data) except? -1
    cdef bytes close(self)
    cdef int reserve(self, Py_ssize_t count) except? -1
    cdef int flush(self, Py_ssize_t until) except? -1
    cdef int put(self, bytes piece) except? -1
    cdef int write_length(self, Py_ssize_t at, Py_ssize_t length) except? -1
    cdef int begin_cell(self, Py_ssize_t cell) except? -1
    cdef int undo_cell(self, Py_ssize_t cell) noexcept
    cdef int end_cell(self, Py_ssize_t last) except? -1
    cdef int replace_cell(self, Py_ssize_t cell, Py_ssize_t last, bytes shown) except? -1
    cdef int cell(self, Py_ssize_t column, Py_ssize_t cell, Py_ssize_t first, Py_ssize_t last, bint full) except? -1
    cdef int hit(self, Py_ssize_t column) except? -1
    cdef int text(self, Py_ssize_t column, Py_ssize_t cell, Py_ssize_t first, Py_ssize_t last) except? -1
    cdef int by_python(self, Py_ssize_t column, Py_ssize_t cell, Py_ssize_t first, Py_ssize_t last) except? -1
    cdef bint may(self, int kind, Py_ssize_t first, Py_ssize_t last) noexcept
    cdef bint escaped(self, Py_ssize_t first, Py_ssize_t last) noexcept
    cdef int show(self, Show how, bint card, Py_ssize_t first, Py_ssize_t last) except? -1
    cdef int partial(self, Show how, bint card, Py_ssize_t first, Py_ssize_t last) except? -1
    cdef Py_ssize_t candidate(self, Py_ssize_t at) except? -1
