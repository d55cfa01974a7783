# The types of state.py for the compiled modules.
cimport cython

cdef class Prepared:
    cdef public bytes name
    cdef public str text
    cdef public bytes raw
    cdef public tuple declared_types
    cdef public tuple types
    cdef public bytes description
    cdef public str decided
    cdef public object found

cdef class Portal:
    cdef public bytes name
    cdef public Prepared statement
    cdef public bytes bind
    cdef public bytes description
    cdef public tuple path
    cdef public long changes
    cdef public long long epoch

cdef class Running:
    cdef public str text
    cdef public object verdict
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

cdef class SessionState:
    cdef public object awaited
    cdef public dict statements
    cdef public dict portals
    cdef public dict unsettled_statements
    cdef public dict unsettled_portals
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

    cpdef change(self, bint portal, bytes name)
    cpdef bint doubtful(self, bint portal, bytes name) except -1
    cpdef bint in_doubt(self) except -1
    cpdef settle(self, Awaited entry, bint executed, bint ok)
    cpdef bint ready(self, bytes status) except -1
    cpdef forget_portals(self)
