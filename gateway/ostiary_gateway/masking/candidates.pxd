# What other compiled modules call without Python in between.

cdef int _IBAN, _PHONE, _SSN, _IP_ADDRESS, _JWT, _PRIVATE_KEY, _AWS_KEY, _GITHUB_TOKEN, _SLACK_TOKEN, _STRIPE_KEY

cdef class Candidates:
    cdef tuple _kept
    cdef const unsigned char* _classes
    cdef const unsigned char* _marks
    cdef const unsigned char* _countries
    cdef int _wanted
    cdef Py_ssize_t other(self, const unsigned char* data, Py_ssize_t at, Py_ssize_t end, bint value) noexcept
    cdef bint candidate_at(self, const unsigned char* data, Py_ssize_t here, Py_ssize_t at, Py_ssize_t end, bint value) noexcept
    cdef bint digits(self, const unsigned char* data, Py_ssize_t here, Py_ssize_t count) noexcept
    cdef bint iban(self, const unsigned char* data, Py_ssize_t here, Py_ssize_t end) noexcept
    cdef bint ssn(self, const unsigned char* data, Py_ssize_t here, Py_ssize_t end) noexcept
    cdef bint phone(self, const unsigned char* data, Py_ssize_t here, Py_ssize_t end) noexcept
    cdef bint dotted(self, const unsigned char* data, Py_ssize_t here, Py_ssize_t end) noexcept
    cdef bint colons(self, const unsigned char* data, Py_ssize_t here, Py_ssize_t end) noexcept
    cdef bint jwt(self, const unsigned char* data, Py_ssize_t here, Py_ssize_t end) noexcept
    cdef bint aws(self, const unsigned char* data, Py_ssize_t here, Py_ssize_t end) noexcept
