# The types of backend.py for the compiled modules.
cimport cython

from .state cimport Awaited, Owed, Portal, Running, SessionState

cdef int _DATA_ROW, _COMMAND_COMPLETE, _EMPTY_QUERY, _READY_FOR_QUERY, _ROW_DESCRIPTION
cdef int _PARSE_COMPLETE, _BIND_COMPLETE, _CLOSE_COMPLETE, _NO_DATA, _PARAMETER_DESCRIPTION
cdef int _ERROR_RESPONSE, _NOTICE_RESPONSE, _NOTIFICATION_RESPONSE, _PARAMETER_STATUS, _PORTAL_SUSPENDED
cdef int _COPY_IN_RESPONSE, _COPY_OUT_RESPONSE, _COPY_DATA, _COPY_DONE
cdef int _QUERY, _PARSE, _BIND, _EXECUTE, _CLOSE, _SYNC, _DESCRIBE_PORTAL
cdef int _RUN, _RUN_EXTENDED, _DESCRIBES, _DESCRIBED, _PARAMETERS_DESCRIBED, _ENDS

cdef Py_ssize_t COPIED, MAX_TAGS
cdef dict _KNOWN_TAGS

@cython.locals(p=cython.p_const_uchar)
cdef _piece(bytes data, Py_ssize_t start, Py_ssize_t end)
cdef const unsigned char* _at(bytes data) except NULL

cdef class Listener:
    cpdef response(self, Running running, object data)
    cpdef ended(self, Running running, str outcome)

@cython.final
cdef class Backend:
    cdef public SessionState state
    cdef public list to_client
    cdef public object notices
    cdef public bint fatal
    cdef Listener _listener
    cdef bint _record
    cdef bytearray _held
    cdef Py_ssize_t _need
    cdef Py_ssize_t _passing
    cdef Running _passing_for
    cdef list _finished
    cdef bytes _last_body
    cdef bytes _last_frame

    @cython.locals(start=Py_ssize_t)
    cpdef feed(self, bytes data)
    @cython.locals(end=Py_ssize_t)
    cdef Py_ssize_t _pass_on(self, bytes data, Py_ssize_t start) except -1
    @cython.locals(end=Py_ssize_t)
    cdef Py_ssize_t _complete(self, bytes data, Py_ssize_t start) except -1
    @cython.locals(
        p=cython.p_const_uchar, size=Py_ssize_t, position=Py_ssize_t, sent=Py_ssize_t, noted=Py_ssize_t, kind=int,
        length=Py_ssize_t, end=Py_ssize_t, count=Py_ssize_t, head=Awaited, owner=Running, current=Running,
        awaited=Owed, first=Awaited, frames=bytes, shown=bytes,
    )
    cdef _messages(self, bytes data, Py_ssize_t start)
    cdef _message(self, int kind, bytes data, Py_ssize_t start, Py_ssize_t end)
    cdef _flush(self, bytes data, Py_ssize_t sent, Py_ssize_t until, Running owner, Py_ssize_t noted)
    cdef _emit(self, object piece)
    cdef _note(self, Running owner, object piece)
    @cython.locals(running=Running, outcome=str)
    cdef _report(self)
    cdef _hold(self, bytes data, Py_ssize_t position, Py_ssize_t size)
    @cython.locals(head=Awaited, running=Running, awaited=Owed)
    cdef Awaited _rows_expected(self, int kind)
    @cython.locals(portal=Portal)
    cdef _describe(self, Awaited head, Running running)
    cdef _hidden_rows(self, bytes data, Py_ssize_t start, Py_ssize_t end, Awaited head)
    @cython.locals(head=Awaited)
    cdef Awaited _head(self, int kinds)
    @cython.locals(head=Awaited)
    cdef Awaited _accepted(self, int kinds)
    @cython.locals(head=Awaited, running=Running, body=bytes)
    cdef _row_description(self, bytes data, Py_ssize_t start, Py_ssize_t end)
    @cython.locals(p=cython.p_const_uchar, last=bytes, same=bint)
    cdef bytes _body(self, bytes data, Py_ssize_t start, Py_ssize_t end)
    cdef _described(self, Awaited head, bytes body)
    @cython.locals(head=Awaited)
    cdef _parameter_description(self, bytes data, Py_ssize_t start, Py_ssize_t end)
    @cython.locals(head=Awaited)
    cdef _changed(self, int kind)
    @cython.locals(p=cython.p_const_uchar, head=Awaited, running=Running, tail=bytes)
    cdef _command_complete(self, bytes data, Py_ssize_t start, Py_ssize_t end)
    @cython.locals(known=tuple)
    cdef _completed(self, Running running, bytes tag)
    cdef _end(self, Awaited head, str outcome)
    @cython.locals(p=cython.p_const_uchar, head=Awaited)
    cdef _ready(self, bytes data, Py_ssize_t start, Py_ssize_t end)
    @cython.locals(head=Awaited, state=SessionState)
    cdef _error(self, bytes data, Py_ssize_t start, Py_ssize_t end)
    @cython.locals(entry=Awaited, awaited=Owed)
    cdef _skip_to_sync(self)
    @cython.locals(first=Awaited)
    cdef _masked(self, bytes data, Py_ssize_t start, Py_ssize_t end, Running running)
    cdef _copy_in(self)
    @cython.locals(running=Running)
    cdef _copy_out(self, bytes data, Py_ssize_t start, Py_ssize_t end)
    @cython.locals(head=Awaited)
    cdef _copy_done(self, bytes data, Py_ssize_t start, Py_ssize_t end)
