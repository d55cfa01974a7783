# The types of relay.py for the compiled modules.
cimport cython

from ostiary_gateway.audit.intake cimport Pending
from ostiary_gateway.checkpoint cimport Gate

from .backend cimport Backend, Listener
from .desk cimport Desk
from .frontend cimport Frontend
from .inbox cimport Inbox
from .state cimport Running, SessionState

cdef object _READ, _monotonic

@cython.final
cdef class Relay(Listener):
    cdef public Gate gate
    cdef public object target
    cdef public double active
    cdef object __weakref__
    cdef object _client
    cdef object _server
    cdef SessionState _state
    cdef Backend _backend
    cdef Desk _desk
    cdef Frontend _frontend
    cdef object _waiting
    cdef object _over
    cdef object _loop
    cdef object _tasks
    cdef set _children
    cdef bint _relieving
    cdef bint _inbox_paused
    cdef long long _unrelieved
    cdef long long _to_client
    cdef long long _to_server


    cdef _send_to_client(self)
    cdef _send_to_server(self)
    cpdef _pump(self, object outcome)
    cdef _wait_for(self, object awaitable)
    cdef _resume(self, object value, object error)
