# The types of frontend.py for the compiled modules.
cimport cython

from .inbox cimport Inbox
from .questions cimport Admission, Ask
from .wire cimport Parse
from .state cimport Awaited, Owed, Portal, Prepared, Running, SessionState

cdef int _QUERY, _PARSE, _BIND, _DESCRIBE, _EXECUTE, _CLOSE
cdef int _SYNC, _FLUSH, _FUNCTION, _TERMINATE
cdef int _COPY_DATA, _COPY_DONE, _COPY_FAIL
cdef int _QUERY_KIND, _PARSE_KIND, _BIND_KIND, _EXECUTE_KIND
cdef int _SYNC_KIND, _DESCRIBE_PORTAL, _DESCRIBE_STATEMENT

cdef object _PARSE_STAGE, _BIND_STAGE, _RUN
cdef object _READ, _TURN, _DRAIN, _ROOM
cdef Py_ssize_t _SURE_NAME, MAX_AWAITED, MAX_PREPARED, LARGE, MAX_UNDER_WAY, MAX_HELD, TURN

@cython.locals(p=cython.p_const_uchar)
cdef Py_ssize_t _nul(bytes data, Py_ssize_t start, Py_ssize_t stop) except -1

cdef class Frontend:
    cdef public SessionState state
    cdef public Inbox inbox
    cdef public bint closed
    cdef public bint ran_in_cycle
    cdef public object admit
    cdef list _outgoing
    cdef bytes _chunk
    cdef Py_ssize_t _from
    cdef Py_ssize_t _to
    cdef public bint cycle_open
    cdef bint _passes_copy_data
    cdef bint _in_copy_data
    cdef public bint told_in_cycle
    cdef Py_ssize_t _handled
    cdef Py_ssize_t _under_way
    cdef object _steps

    cpdef bint may_go_on(self, object wait) except -1
    @cython.locals(state=SessionState, inbox=Inbox, first=Awaited, kind=int, start=Py_ssize_t, stop=Py_ssize_t)
    cpdef advance(self, object outcome)
    cdef _go_on(self, object outcome)
    @cython.locals(state=SessionState)
    cdef _message(self, int kind, bytes data, Py_ssize_t start, Py_ssize_t stop)
    @cython.locals(state=SessionState)
    cdef _handle(self, int kind, bytes data, Py_ssize_t start, Py_ssize_t stop, bint settled, bint drained)
    @cython.locals(p=cython.p_const_uchar, raw=bytes, text=str, ask=Ask, admission=Admission)
    cdef _query(self, bytes data, Py_ssize_t start, Py_ssize_t stop, bint drained)
    @cython.locals(running=Running)
    cdef _run_query(self, Admission admission, str text, bytes data, Py_ssize_t start, Py_ssize_t stop)
    @cython.locals(p=cython.p_const_uchar, message=Parse, name=bytes, text=str, state=SessionState, statement=Prepared, ask=Ask, admission=Admission)
    cdef _parse(self, bytes data, Py_ssize_t start, Py_ssize_t stop, bint drained)
    @cython.locals(state=SessionState, entry=Awaited, name=bytes)
    cdef _prepare(self, Admission admission, Prepared statement, bytes data, Py_ssize_t start, Py_ssize_t stop)
    @cython.locals(
        p=cython.p_const_uchar, middle=Py_ssize_t, end=Py_ssize_t, portal_name=bytes, statement_name=bytes
    )
    cdef _bind(self, bytes data, Py_ssize_t start, Py_ssize_t stop, bint drained)
    @cython.locals(p=cython.p_const_uchar, statement=Prepared, portal=Portal, ask=Ask, admission=Admission)
    cdef _bind_known(self, bytes portal_name, bytes statement_name, bytes data, Py_ssize_t start, Py_ssize_t stop)
    cdef _make_portal(self, Admission admission, Portal portal, bytes data, Py_ssize_t start, Py_ssize_t stop)
    @cython.locals(state=SessionState, entry=Awaited, name=bytes)
    cdef _add_portal(self, Portal portal, bytes data, Py_ssize_t start, Py_ssize_t stop)
    @cython.locals(p=cython.p_const_uchar, entry=Awaited, portal=bint, name=bytes)
    cdef _describe(self, bytes data, Py_ssize_t start, Py_ssize_t stop, bint drained)
    @cython.locals(
        p=cython.p_const_uchar, name=bytes, statement=Prepared, portal=Portal, ask=Ask, admission=Admission
    )
    cdef _execute(self, bytes data, Py_ssize_t start, Py_ssize_t stop, bint drained)
    @cython.locals(running=Running, hidden=Awaited, entry=Awaited)
    cdef _run_portal(
        self, Admission admission, bytes name, Portal portal, bytes data, Py_ssize_t start, Py_ssize_t stop
    )
    @cython.locals(last=Awaited)
    cdef bint _describe_follows(self, Portal portal) except -1
    cdef _close(self, bytes data, Py_ssize_t start, Py_ssize_t stop)
    cdef _sync(self, bytes data, Py_ssize_t start, Py_ssize_t stop)
    cdef _flush(self, Py_ssize_t start, Py_ssize_t stop)
    cdef _copy_data(self, int kind, bytes data, Py_ssize_t start, Py_ssize_t stop)
    cpdef say(self, bytes message)
    cdef _pass(self, bytes data, Py_ssize_t start, Py_ssize_t stop)
    @cython.locals(p=cython.p_const_uchar, chunk=bytes, start=Py_ssize_t, stop=Py_ssize_t)
    cdef _flush_passing(self)
    cdef bint _too_much(self, bytes name, Py_ssize_t size) except -1
    cdef bint _names_in_doubt(self, str text) except -1
    @cython.locals(state=SessionState)
    cpdef _owe(self, Awaited entry, bytes data, Py_ssize_t start, Py_ssize_t stop)
    @cython.locals(state=SessionState)
    cpdef owe(self, Awaited entry, bytes message)
    cdef bint _resumed(self, Awaited entry) except -1
