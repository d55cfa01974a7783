# The types of intake.py for the compiled modules.
cimport cython

cdef Py_ssize_t COST, FRAME, HANDOVER, SMALL, KEPT
cdef object _ALLOW, _DENY
cdef dict _OUTCOMES
cdef bytes _NO_DETAIL

@cython.final
cdef class Pending:
    cdef object _call
    cdef str _failure
    cdef bint _told

    cpdef then(self, object call)
    cpdef tell(self, str failure)

@cython.final
cdef class _Request:
    cdef long long number
    cdef double at
    cdef str text
    cdef bytes detail
    cdef bytes decision
    cdef bint written
    cdef long long weight
    cdef list parts
    cdef long long waiting
    cdef long long handed
    cdef long long size
    cdef bint missing

@cython.final
cdef class Intake:
    cdef public long long accepted
    cdef public long long written
    cdef public str failing
    cdef public int syncing
    cdef public bint closed
    cdef public long long hard
    cdef public long long dropped
    cdef public long long refused
    cdef public long long truncated
    cdef public long long misplaced
    cdef public Record run
    cdef public list waiting
    cdef public list news
    cdef public dict sessions
    cdef list items
    cdef list dirty
    cdef long long pending
    cdef bint scheduled
    cdef bint urgent
    cdef object decisions
    cdef set known
    cdef object linger
    cdef object soon
    cdef object later
    cdef object pace
    cdef bint put_off
    cdef object hand_over

    cpdef bint full(self) except -1
    cpdef bytes decision(self, object decision)
    cdef Pending waiter(self)
    cdef _sync_when_enough(self)
    cdef touched(self, Py_ssize_t size)
    cpdef flush(self)
    @cython.locals(record=Record, heads=list, parts=list, dirty=list, size=Py_ssize_t)
    cdef gather(self)

@cython.final
cdef class Record:
    cdef public str id
    cdef public long long sid
    cdef public long long seq
    cdef Intake intake
    cdef bint allowed
    cdef bint full
    cdef long long limit
    cdef public bint over
    cdef _Request current
    cdef dict requests
    cdef public long long missing
    cdef long long begun
    cdef long long denied
    cdef long long asked
    cdef long long errors
    cdef long long rows
    cdef long long size
    cdef list events
    cdef Py_ssize_t weight
    cdef Py_ssize_t count
    cdef int flags
    cdef long long lowest
    cdef long long highest
    cdef public bint waits
    cdef public long long window
    cdef object last
    cdef bint last_allows
    cdef bytes last_id

    cdef begin_section(self)
    @cython.locals(current=_Request, request=_Request)
    cdef settle(self)
    @cython.locals(first=cython.longlong)
    cdef bytes head(self)
    @cython.locals(size=Py_ssize_t, events=list)
    cdef _add(self, bytes body, long long number)
    cdef bint _room(self) except -1
    cpdef rare(self, int kind, bytes body)
    @cython.locals(text=bytes)
    cdef _begin(self, _Request request)
    cdef _unweigh(self, _Request request)
    @cython.locals(intake=Intake, request=_Request)
    cpdef begin(self, long long number, double at, str text, object detail, object decision, bint durable)
    @cython.locals(current=_Request)
    cdef _Request _find(self, long long number)
    @cython.locals(request=_Request, length=cython.longlong, size=cython.longlong)
    cpdef response(self, long long number, object data)
    @cython.locals(request=_Request)
    cpdef end(self, long long number, double at, str outcome, object detail, long long rows, long long size)
    @cython.locals(flags=int, kept=cython.longlong, told=bytes, text=bytes, parts=list)
    cdef _end(
        self, long long number, double at, str outcome, bytes detail, long long rows, long long size, _Request request
    )
    cdef _loose(self, long long number, bytes data)
    cdef _miss(self, _Request request)
    @cython.locals(parts=list, size=cython.longlong)
    cdef _hand_over(self, _Request request)
    @cython.locals(intake=Intake)
    cdef _part(self, long long number, long long offset, list parts, long long size)
    cpdef finish(self, int kind, bytes body, double at)

cdef bytes _detail(object detail)
