# The types of frontend.py for the compiled modules.
cimport cython

from .inbox cimport Inbox
from .questions cimport Admission, Ask
from .state cimport Awaited, Portal, Prepared, Running, SessionState

cdef int _QUERY, _PARSE, _BIND, _DESCRIBE, _EXECUTE, _CLOSE
cdef int _SYNC, _FLUSH, _FUNCTION, _TERMINATE
cdef int _COPY_DATA, _COPY_DONE, _COPY_FAIL
cdef int _QUERY_KIND, _PARSE_KIND, _BIND_KIND, _EXECUTE_KIND
cdef int _SYNC_KIND, _DESCRIBE_PORTAL, _DESCRIBE_STATEMENT

cdef object _PARSE_STAGE, _BIND_STAGE, _RUN

cdef class Frontend:
    cdef public SessionState state
    cdef public Inbox inbox
    cdef public bint closed
    cdef public bint ran_in_cycle
    cdef object _admit
    cdef list _outgoing
    cdef bytes _chunk
    cdef Py_ssize_t _from
    cdef Py_ssize_t _to
    cdef bint _cycle_open
    cdef bint _passes_copy_data
    cdef bint _in_copy_data
    cdef bint _told_in_cycle

    cpdef bint may_go_on(self, object wait) except -1
    cdef _handle(self, int kind, bytes data, Py_ssize_t start, Py_ssize_t stop, bint settled, bint drained)
    @cython.locals(raw=bytes, text=str, ask=Ask, admission=Admission)
    cdef _query(self, bytes data, Py_ssize_t start, Py_ssize_t stop, bint drained)
    cdef _run_query(self, Admission admission, str text, bytes data, Py_ssize_t start, Py_ssize_t stop)
    @cython.locals(statement=Prepared, ask=Ask, admission=Admission)
    cdef _parse(self, bytes data, Py_ssize_t start, Py_ssize_t stop, bint drained)
    @cython.locals(state=SessionState, entry=Awaited)
    cdef _prepare(self, Admission admission, Prepared statement, bytes data, Py_ssize_t start, Py_ssize_t stop)
    @cython.locals(middle=Py_ssize_t, end=Py_ssize_t)
    cdef _bind(self, bytes data, Py_ssize_t start, Py_ssize_t stop, bint drained)
    @cython.locals(statement=Prepared, portal=Portal, ask=Ask, admission=Admission)
    cdef _bind_known(self, bytes portal_name, bytes statement_name, bytes data, Py_ssize_t start, Py_ssize_t stop)
    cdef _make_portal(self, Admission admission, Portal portal, bytes data, Py_ssize_t start, Py_ssize_t stop)
    @cython.locals(state=SessionState, entry=Awaited)
    cdef _add_portal(self, Portal portal, bytes data, Py_ssize_t start, Py_ssize_t stop)
    @cython.locals(entry=Awaited, portal=bint)
    cdef _describe(self, bytes data, Py_ssize_t start, Py_ssize_t stop, bint drained)
    @cython.locals(statement=Prepared, portal=Portal, ask=Ask, admission=Admission)
    cdef _execute(self, bytes data, Py_ssize_t start, Py_ssize_t stop, bint drained)
    @cython.locals(running=Running, hidden=Awaited)
    cdef _run_portal(
        self, Admission admission, bytes name, Portal portal, bytes data, Py_ssize_t start, Py_ssize_t stop
    )
    @cython.locals(last=Awaited)
    cdef bint _describe_follows(self, Portal portal) except -1
    cdef _close(self, bytes data, Py_ssize_t start, Py_ssize_t stop)
    cdef _sync(self, bytes data, Py_ssize_t start, Py_ssize_t stop)
    cdef _flush(self, Py_ssize_t start, Py_ssize_t stop)
    cdef _copy_data(self, int kind, bytes data, Py_ssize_t start, Py_ssize_t stop)
    cdef _say(self, bytes message)
    cdef _pass(self, bytes data, Py_ssize_t start, Py_ssize_t stop)
    @cython.locals(chunk=bytes, start=Py_ssize_t, stop=Py_ssize_t)
    cdef _flush_passing(self)
    cdef bint _too_much(self, bytes name, Py_ssize_t size) except -1
    cdef bint _names_in_doubt(self, str text) except -1
    @cython.locals(state=SessionState)
    cpdef _owe(self, Awaited entry, bytes data, Py_ssize_t start, Py_ssize_t stop)
    @cython.locals(state=SessionState)
    cdef _owe_new(self, Awaited entry, bytes message)
    cdef bint _resumed(self, Awaited entry) except -1
