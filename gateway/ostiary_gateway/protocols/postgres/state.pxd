# The types of state.py for the compiled modules.
cimport cython

from ostiary_gateway.checkpoint cimport Verdict

@cython.final
@cython.freelist(32)
cdef class Prepared:
    cdef public bytes name
    cdef public str text
    cdef public bytes raw
    cdef public tuple declared_types
    cdef public tuple types
    cdef public bytes description
    cdef public str decided
    cdef public object found

@cython.final
@cython.freelist(32)
cdef class Portal:
    cdef public bytes name
    cdef public Prepared statement
    cdef public bytes bind
    cdef public bytes description
    cdef public tuple path
    cdef public long changes
    cdef public long long epoch

@cython.final
@cython.freelist(32)
cdef class Running:
    cdef public str text
    cdef public Verdict verdict
    cdef public object analysis
    cdef public object mask
    cdef public bint plain
    cdef public bytes described
    cdef public bytes shown
    cdef public Py_ssize_t completed
    cdef public long long rows
    cdef public long long bytes
    cdef public long long written
    cdef public list tags
    cdef public tuple error

@cython.final
@cython.freelist(32)
cdef class Awaited:
    cdef public int kind
    cdef public Running running
    cdef public object denial
    cdef public bint hidden
    cdef public bytes name
    cdef public bint portal_kind
    cdef public Prepared statement
    cdef public Portal portal
    cdef public object previous
    cdef public list values
    cdef public bint failed

cdef Py_ssize_t COMPACT

@cython.final
cdef class Owed:
    cdef public Awaited first
    cdef list _entries
    cdef Py_ssize_t _at

    @cython.locals(entry=Awaited)
    cpdef append(self, Awaited entry)
    @cython.locals(entry=Awaited, entries=list, at=Py_ssize_t)
    cpdef Awaited answered(self)

@cython.final
cdef class Changes:
    cdef dict _named
    cdef long long _unnamed
    cdef long long _epoch

    cpdef add(self, bytes name, long long epoch)
    cpdef bint doubtful(self, bytes name, long long epoch) except -1
    cpdef bint any_doubtful(self, long long epoch) except -1
    cpdef bint settle(self, bytes name) except -1

@cython.final
cdef class SessionState:
    cdef public Owed awaited
    cdef public dict statements
    cdef public dict portals
    cdef public Changes unsettled_statements
    cdef public Changes unsettled_portals
    cdef public long long rows
    cdef public long long bytes
    cdef public long long written
    cdef public long long epoch
    cdef public bytes status
    cdef public bint copying
    cdef public bint copy_ended
    cdef public bint skipping
    cdef public list skipped
    cdef public bint unsure
    cdef public bint touched_session
    cdef public bint ddl_sent
    cdef public bint uncommitted_ddl
    cdef public bint has_temp
    cdef public bint rebound
    cdef public object settings

    @cython.locals(changes=Changes)
    cpdef change(self, bint portal, bytes name)
    @cython.locals(changes=Changes)
    cpdef bint doubtful(self, bint portal, bytes name) except -1
    cpdef bint in_doubt(self) except -1
    @cython.locals(changes=Changes, more=bint)
    cpdef settle(self, Awaited entry, bint executed, bint ok)
    @cython.locals(owed=bint, committed=bint)
    cpdef bint ready(self, bytes status) except -1
    @cython.locals(portal=Portal)
    cpdef forget_portals(self)
