"""Where in a buffer the other detectors may find something: one pass that looks for the marks of all of them.

Compiled; also runs as it is. Each condition is necessary for the grammar of that name in `grammars`, whatever
surrounds the value, and cheap: what passes is looked at again, exactly.
"""

import cython

IBAN, PHONE, SSN, IP_ADDRESS, JWT, PRIVATE_KEY, AWS_KEY, GITHUB_TOKEN, SLACK_TOKEN, STRIPE_KEY = (
    1 << index for index in range(10)
)
BITS: dict[str, int] = {
    "IBAN": IBAN, "Phone": PHONE, "USSocialSecurityNumber": SSN, "IPAddress": IP_ADDRESS, "JWT": JWT,
    "PrivateKey": PRIVATE_KEY, "AWSKey": AWS_KEY, "GitHubToken": GITHUB_TOKEN, "SlackToken": SLACK_TOKEN,
    "StripeKey": STRIPE_KEY,
}  # fmt: skip
"""Bit by name of the detector."""

# The same for the compiled code, which has them as plain C integers.
_IBAN, _PHONE, _SSN, _IP_ADDRESS, _JWT = IBAN, PHONE, SSN, IP_ADDRESS, JWT
_PRIVATE_KEY, _AWS_KEY, _GITHUB_TOKEN, _SLACK_TOKEN, _STRIPE_KEY = (
    PRIVATE_KEY, AWS_KEY, GITHUB_TOKEN, SLACK_TOKEN, STRIPE_KEY,
)  # fmt: skip

_DIGIT, _WORD, _HEX, _BASE64, _BASE32 = 1, 2, 4, 8, 16


def _classes() -> bytes:
    found = bytearray(256)
    for byte in range(128):
        char = chr(byte)
        found[byte] |= _DIGIT if char.isdigit() else 0
        found[byte] |= _WORD | _BASE64 if char.isalnum() else 0
        found[byte] |= _HEX if char in "0123456789abcdefABCDEF" else 0
        found[byte] |= _BASE64 if char in "_-" else 0
        found[byte] |= _BASE32 if char in "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" else 0
    return bytes(found)


_MARKS: dict[str, int] = {
    "0123456789": IBAN, "+": PHONE, " -": SSN, ".:": IP_ADDRESS, "e": JWT, "P": PRIVATE_KEY, "A": AWS_KEY,
    "g": GITHUB_TOKEN, "x": SLACK_TOKEN, "_w": STRIPE_KEY,
}  # fmt: skip


def _marks(wanted: int) -> bytes:
    """By byte, whether it is a mark of any that is wanted."""
    found = bytearray(256)
    for chars, bit in _MARKS.items():
        for char in chars:
            found[ord(char)] = 1 if bit & wanted else found[ord(char)]
    return bytes(found)


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _stands(
    data: cython.p_const_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    word: cython.p_const_uchar,
    size: cython.Py_ssize_t,
) -> cython.bint:
    """True if these bytes stand here."""
    index: cython.Py_ssize_t = 0
    if end - at < size:
        return False
    while index < size and data[at + index] == word[index]:
        index += 1
    return index == size


@cython.cclass
class Candidates:
    """Looks for the marks of some detectors."""

    def __init__(self, countries: bytes, wanted: int) -> None:
        """`countries`: 26 x 26 flags of the letters that an IBAN may begin with. `wanted`: some of BITS."""
        classes: bytes = _classes()
        marks: bytes = _marks(wanted)
        self._kept = (classes, marks, countries)
        self._classes = classes
        self._marks = marks
        self._countries = countries
        self._wanted = wanted

    @cython.cfunc
    @cython.exceptval(check=False)
    def other(
        self, data: cython.p_const_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, value: cython.bint
    ) -> cython.Py_ssize_t:
        """A place inside the next candidate of any of them; `end` if there is none. `value`: this is one value."""
        here: cython.Py_ssize_t = at
        marks: cython.p_const_uchar = self._marks
        while here < end:
            if marks[data[here]] and self.candidate_at(data, here, at, end, value):
                return here
            here += 1
        return end

    @cython.cfunc
    @cython.exceptval(check=False)
    def candidate_at(
        self,
        data: cython.p_const_uchar,
        here: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        value: cython.bint,
    ) -> cython.bint:
        mark: cython.int = data[here]
        if 48 <= mark <= 57:
            if here - at < 2 or (value and here - at > 2 and self._classes[data[here - 3]] & 2):
                return False
            return self.iban(data, here, end)
        if mark == 32 or (mark == 45 and self._wanted & _SSN):
            return here - at >= 3 and self.ssn(data, here, end)
        if mark == 43:
            return self.phone(data, here, end)
        if mark == 46:
            return here > at and self.dotted(data, here, end)
        if mark == 58:
            return self.colons(data, here, end)
        if mark == 101:
            return self.jwt(data, here, end)
        if mark == 80:
            return _stands(data, here, end, b"PRIVATE KEY", 11)
        if mark == 65:
            return self.aws(data, here, end)
        if mark == 103:
            return _stands(data, here, end, b"github_pat_", 11) or (
                end - here > 4 and data[here + 1] == 104 and data[here + 3] == 95
            )
        if mark == 120:
            return _stands(data, here, end, b"xox", 3) or _stands(data, here, end, b"xapp-", 5)
        if mark == 95:
            return _stands(data, here, end, b"_live_", 6) or _stands(data, here, end, b"_test_", 6)
        return _stands(data, here, end, b"whsec_", 6)

    @cython.cfunc
    @cython.exceptval(check=False)
    def digits(self, data: cython.p_const_uchar, here: cython.Py_ssize_t, count: cython.Py_ssize_t) -> cython.bint:
        index: cython.Py_ssize_t = 0
        while index < count and 48 <= data[here + index] <= 57:
            index += 1
        return index == count

    @cython.cfunc
    @cython.exceptval(check=False)
    def iban(
        self, data: cython.p_const_uchar, here: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> cython.bint:
        """Two letters of a country, two digits, and at least 11 letters or digits."""
        first: cython.int = data[here - 2] | 32
        second: cython.int = data[here - 1] | 32
        count: cython.int = 0
        if not (97 <= first <= 122 and 97 <= second <= 122) or end - here < 13 or not self.digits(data, here, 2):
            return False
        if not self._countries[(first - 97) * 26 + second - 97]:
            return False
        here += 2
        while here < end and count < 11:
            if data[here] == 32:
                here += 1
            if here == end or not self._classes[data[here]] & 2:
                return False
            count += 1
            here += 1
        return count == 11

    @cython.cfunc
    @cython.exceptval(check=False)
    def ssn(
        self, data: cython.p_const_uchar, here: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> cython.bint:
        """`AAA-GG-SSSS`, from its first separator."""
        if end - here < 8 or data[here + 3] != data[here]:
            return False
        return self.digits(data, here - 3, 3) and self.digits(data, here + 1, 2) and self.digits(data, here + 4, 4)

    @cython.cfunc
    @cython.exceptval(check=False)
    def phone(
        self, data: cython.p_const_uchar, here: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> cython.bint:
        """`+` and at least 8 digits, of which the first is no zero, with up to two separators between them."""
        count: cython.int = 0
        between: cython.int = 0
        byte: cython.int
        here += 1
        if here >= end or not 49 <= data[here] <= 57:
            return False
        while here < end and count < 8 and between <= 2:
            byte = data[here]
            if 48 <= byte <= 57:
                count += 1
                between = 0
            elif byte == 32 or byte == 40 or byte == 41 or 45 <= byte <= 47:
                between += 1
            else:
                return False
            here += 1
        return count == 8

    @cython.cfunc
    @cython.exceptval(check=False)
    def dotted(
        self, data: cython.p_const_uchar, here: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> cython.bint:
        """The first dot of four numbers of up to three digits."""
        part: cython.int
        count: cython.int
        if not 48 <= data[here - 1] <= 57:
            return False
        for part in range(3):
            if here >= end or data[here] != 46:
                return False
            here += 1
            count = 0
            while here < end and 48 <= data[here] <= 57 and count < 4:
                here += 1
                count += 1
            if count == 0 or (count > 3 and part < 2):
                return False
        return True

    @cython.cfunc
    @cython.exceptval(check=False)
    def colons(
        self, data: cython.p_const_uchar, here: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> cython.bint:
        """Of IPv6: more than two colons, two of them together or at least six in all, with nothing but hex between."""
        count: cython.int = 0
        double: cython.bint = False
        stop: cython.Py_ssize_t = min(end, here + 48)
        while here < stop and (data[here] == 58 or self._classes[data[here]] & 4):
            if data[here] == 58:
                count += 1
                if here + 1 < stop and data[here + 1] == 58:
                    double = True
            here += 1
        return count > 2 and (double or count >= 6)

    @cython.cfunc
    @cython.exceptval(check=False)
    def jwt(
        self, data: cython.p_const_uchar, here: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> cython.bint:
        """`{"` or `{ ` in base64url, and nine more of its characters."""
        index: cython.int = 3
        if end - here < 12 or data[here + 1] != 121:
            return False
        if not (65 <= data[here + 2] <= 68 or 73 <= data[here + 2] <= 76):
            return False
        while index < 12 and self._classes[data[here + index]] & 8:
            index += 1
        return index == 12

    @cython.cfunc
    @cython.exceptval(check=False)
    def aws(
        self, data: cython.p_const_uchar, here: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> cython.bint:
        """One of four prefixes, and 16 characters of base32."""
        index: cython.int = 4
        if end - here < 20 or data[here + 3] != 65:
            return False
        if not (
            _stands(data, here, end, b"AKI", 3)
            or _stands(data, here, end, b"ASI", 3)
            or _stands(data, here, end, b"ABI", 3)
            or _stands(data, here, end, b"ACC", 3)
        ):
            return False
        while index < 20 and self._classes[data[here + index]] & 16:
            index += 1
        return index == 20

    def next_other(self, buffer: bytes, position: int) -> int:
        """Where from `position` on the next candidate in a buffer is; its length if nowhere."""
        data: cython.p_const_uchar = buffer
        return int(self.other(data, position, len(buffer), False))
