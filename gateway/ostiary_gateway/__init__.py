"""The data plane: protocols under policy, identity, credentials, masking and the record."""

import os

from ostiary_gateway import _pure

if os.environ.get("OSTIARY_PURE") or _pure.to_be_compiled():
    _pure.install()
