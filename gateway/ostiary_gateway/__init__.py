"""The data plane: protocols under policy, identity, credentials, masking and the record."""

import os

if os.environ.get("OSTIARY_PURE"):
    from ostiary_gateway import _pure

    _pure.install()
