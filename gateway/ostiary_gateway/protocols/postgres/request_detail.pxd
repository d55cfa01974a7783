# The types of request_detail.py for the compiled modules.
cimport cython

from .questions cimport Ask
from .state cimport Portal, Prepared
from .wire cimport Bind

cdef object _RUN

@cython.locals(statement=Prepared, portal=Portal, bind=Bind)
cpdef of_request(Ask ask, bint full)
cpdef of_end(list tags, tuple error)
