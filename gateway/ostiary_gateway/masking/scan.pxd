# What other compiled modules call without Python in between.

cdef class Finder:
    cdef tuple _tables
    cdef const unsigned char* _lengths
    cdef const unsigned char* _mail
    cdef Py_ssize_t start
    cdef Py_ssize_t end
    cdef Py_ssize_t byte(self, const unsigned char* data, int wanted, Py_ssize_t at, Py_ssize_t end) noexcept
    cdef Py_ssize_t run(self, const unsigned char* data, Py_ssize_t at, Py_ssize_t end) noexcept
    cdef bint card(self, const unsigned char* data, Py_ssize_t at, Py_ssize_t first, Py_ssize_t last, bint strict) noexcept
    cdef bint card_in(self, const unsigned char* data, Py_ssize_t low, Py_ssize_t high, Py_ssize_t first, Py_ssize_t last, bint strict) noexcept
    cdef Py_ssize_t card_at(self, const unsigned char* data, Py_ssize_t start, Py_ssize_t high, Py_ssize_t first, Py_ssize_t last, bint strict) noexcept
    cdef bint is_card_number(self, unsigned long long number) noexcept
    cdef bint mail(self, const unsigned char* data, Py_ssize_t at, Py_ssize_t last) noexcept
    cdef Py_ssize_t domain(self, const unsigned char* data, Py_ssize_t at, Py_ssize_t last) noexcept
    cdef Py_ssize_t literal(self, const unsigned char* data, Py_ssize_t at, Py_ssize_t last) noexcept
    cdef bint in_uuid(self, const unsigned char* data, Py_ssize_t start, Py_ssize_t first, Py_ssize_t last) noexcept
    cdef bint is_image(self, const unsigned char* data, Py_ssize_t end) noexcept
