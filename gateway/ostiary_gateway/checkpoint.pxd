# The types of checkpoint.py for the compiled modules.
cimport cython

from ostiary_gateway.audit.intake cimport Record

cdef object _now

@cython.final
@cython.freelist(16)
cdef class Verdict:
    cdef public object decision
    cdef public long long number
    cdef public str session
    cdef public object standing

@cython.final
cdef class Gate:
    cdef public str id
    cdef public object identity
    cdef public object connection
    cdef public long long requests
    cdef public str name
    cdef public bint strict
    cdef public bint full
    cdef public object checkpoint
    cdef public object record
    cdef object _client
    cdef object _tally
    cdef double _opened
    cdef bint _open
    cdef dict _kept
    cdef object _reuse
    cdef object _reuse_of_reads
    cdef str _revision
    cdef object _policies
    cdef object _connection_facts
    cdef str _protocol
    cdef tuple _allowed
    cdef object _counted
    cdef public object waiter
    cdef public dict running
    cdef Record _file

    @cython.locals(number=cython.longlong, record=Record)
    cpdef Verdict admit(self, str text, object detail, object decision)
    @cython.locals(record=Record)
    cpdef response(self, long long number, object data)
    @cython.locals(record=Record)
    cpdef end(self, long long number, str outcome, object detail, long long rows, long long size)
