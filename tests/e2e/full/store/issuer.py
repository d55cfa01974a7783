"""A small OIDC issuer for the tests, in a pod: discovery, keys, and tokens for codes that the test itself makes.

A code is the base64 of {"user", "groups", "nonce", "challenge"}: what somebody who signed in would have been given.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import ssl
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

ISSUER = os.environ["ISSUER"]
KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = {**json.loads(ECAlgorithm.to_jwk(KEY.public_key())), "kid": "one", "use": "sig", "alg": "ES256"}
DISCOVERY = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/keys",
    "response_types_supported": ["code"],
    "subject_types_supported": ["public"],
    "id_token_signing_alg_values_supported": ["ES256"],
    "code_challenge_methods_supported": ["S256"],
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        pages = {"/.well-known/openid-configuration": DISCOVERY, "/keys": {"keys": [PUBLIC]}}
        self._answer(200 if self.path in pages else 404, pages.get(self.path, {}))

    def do_POST(self) -> None:
        fields = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        told = json.loads(base64.urlsafe_b64decode(fields["code"][0]))
        made = base64.urlsafe_b64encode(hashlib.sha256(fields["code_verifier"][0].encode()).digest()).rstrip(b"=")
        if made.decode() != told["challenge"]:
            self._answer(400, {"error": "invalid_grant"})
            return
        now = int(time.time())
        claims = {
            "iss": ISSUER, "aud": "ostiary", "sub": told["user"], "groups": told["groups"], "nonce": told["nonce"],
            "iat": now, "exp": now + 3600,
        }  # fmt: skip
        token = jwt.encode(claims, KEY, "ES256", headers={"kid": "one"})
        self._answer(200, {"access_token": "none", "token_type": "Bearer", "id_token": token, "expires_in": 3600})

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    server = ThreadingHTTPServer(("0.0.0.0", 8443), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


main()
