# The types of desk.py for the compiled modules.
cimport cython

from ostiary_gateway.checkpoint cimport Gate, Verdict

from .found cimport Found
from .masks cimport ResponseMask
from .questions cimport Admission, Ask
from .state cimport Portal, Prepared, Running, SessionState

cdef object _PARSE, _BIND, _RUN
cdef double _FOREVER
cdef object _now, _monotonic

@cython.final
cdef class Desk:
    cdef object _checkpoint
    cdef bint _full
    cdef object _bundle
    cdef str _revision
    cdef public Gate gate
    cdef public object reference
    cdef public object asking
    cdef public object notices
    cdef public object waiting
    cdef SessionState _state
    cdef str _database
    cdef str _search_path
    cdef str _role
    cdef object _scope
    cdef bint _has_temp
    cdef bint _uncommitted_ddl
    cdef bint _rebound
    cdef bint _touched
    cdef object _policies
    cdef object _row_masks
    cdef dict _found
    cdef tuple _path
    cdef bint _deferred
    cdef object _shaped
    cdef object _work
    cdef Admission _admission
    cdef Ask _ask
    cdef object _answers

    @cython.locals(state=SessionState)
    cdef _current_scope(self)
    cdef _take_policies(self)
    @cython.locals(portal=Portal, found=Found)
    cdef _answer(self, Ask ask)
    @cython.locals(statement=Prepared, found=Found, portal=Portal, valid_until=cython.double)
    cdef Found _recall(self, Ask ask)
    @cython.locals(admission=Admission, verdict=Verdict, mask=ResponseMask)
    cdef Admission _admit_again(self, Ask ask, Found found)
    cdef object _generation(self)
    cdef bint _decided_elsewhere(self, Ask ask) except -1
    @cython.locals(verdict=Verdict)
    cpdef ended(self, Running running, str outcome)
