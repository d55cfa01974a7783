"""RowDescription in, DataRows through the mask, as they travel."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary_gateway.protocols.postgres.rows import (
    Field,
    RowMask,
    compile_row_mask,
    parse_row_description,
    with_formats,
)
from ostiary_gateway.protocols.postgres.wire import ProtocolViolation, frame, parse_data_row
from ostiary_policy.masking import ColumnMask, DetectorMask, MaskPlan, Strategy

KEEP_4 = Strategy("Partial", keep_last=4)
REDACT = Strategy("Redact")
CARD, EMAIL = DetectorMask("CreditCard", KEEP_4), DetectorMask("Email", REDACT)
DETECT = MaskPlan(detectors=(CARD, EMAIL))
VISA = b"4111111111111111"

Value = bytes | None


def field(oid: int, form: int = 0, table: int = 0, attnum: int = 0) -> Field:
    return Field("x", table, attnum, oid, -1, -1, form)


def data_row(*values: Value) -> bytes:
    cells = (struct.pack("!i", -1) if v is None else struct.pack("!i", len(v)) + v for v in values)
    return frame(b"D", struct.pack("!H", len(values)) + b"".join(cells))


def row_mask(*fields: Field, plan: MaskPlan = DETECT, by_index: dict[int, Strategy] | None = None) -> RowMask:
    mask = compile_row_mask(plan, fields, {}, by_index or {})
    assert mask is not None
    return mask


def through(mask: RowMask, *values: Value) -> tuple[Value, ...]:
    row = data_row(*values)
    masked = mask.apply_all(row)
    assert len(masked) == 5 + struct.unpack_from("!i", masked, 1)[0] - 4
    return parse_data_row(masked[5:])


def through_all(mask: RowMask, *values: Value) -> tuple[Value, ...]:
    """The same, and neighbours make no difference."""
    row = data_row(*values)
    masked = mask.apply_all(row)
    plain = data_row(*(b"-" if index else None for index in range(len(values))))
    quiet = mask.apply_all(plain)
    assert mask.apply_all(plain * 3 + row + plain) == quiet * 3 + masked + quiet, "its neighbours make a difference"
    return parse_data_row(masked[5:])


def one(oid: int, value: bytes, form: int = 0, plan: MaskPlan = DETECT) -> Value:
    return through_all(row_mask(field(oid, form), field(25), plan=plan), value, b"next")[0]


def by_column(oid: int, value: bytes, strategy: Strategy = REDACT, form: int = 0) -> Value:
    return through(row_mask(field(oid, form), plan=MaskPlan(), by_index={0: strategy}), value)[0]


# RowDescription


def described(*fields: tuple[str, int, int, int, int]) -> bytes:
    body = struct.pack("!H", len(fields))
    for name, table, attnum, oid, form in fields:
        body += name.encode() + b"\0" + struct.pack("!IhIhih", table, attnum, oid, -1, -1, form)
    return body


def test_a_row_description_is_read() -> None:
    fields = parse_row_description(described(("id", 4_000_000_000, 1, 23, 0), ("é", 0, 0, 25, 1)))
    assert [(f.name, f.table_oid, f.attnum, f.type_oid, f.format) for f in fields] == [
        ("id", 4_000_000_000, 1, 23, 0),
        ("é", 0, 0, 25, 1),
    ]


def test_a_cut_or_padded_row_description_is_a_violation() -> None:
    whole = described(("id", 1, 1, 23, 0), ("email", 1, 2, 25, 0))
    for size in range(len(whole)):
        with pytest.raises(ProtocolViolation):
            parse_row_description(whole[:size])
    with pytest.raises(ProtocolViolation, match="1 bytes too many"):
        parse_row_description(whole + b"\0")
    with pytest.raises(ProtocolViolation, match="unknown format 2"):
        parse_row_description(described(("id", 1, 1, 23, 2)))


def test_the_formats_of_bind_are_laid_over_a_statements_description() -> None:
    fields = (field(23), field(25))
    assert [f.format for f in with_formats(fields, ())] == [0, 0]
    assert [f.format for f in with_formats(fields, (1,))] == [1, 1]
    assert [f.format for f in with_formats(fields, (0, 1))] == [0, 1]
    with pytest.raises(ProtocolViolation, match="3 result formats for 2 columns"):
        with_formats(fields, (0, 1, 0))


# Which columns


def test_a_column_is_masked_by_its_origin_whatever_it_is_called() -> None:
    plan = MaskPlan(columns=(ColumnMask("public", "customers", "email", REDACT),))
    fields = (field(23, table=7, attnum=1), field(25, table=7, attnum=2), field(25, table=8, attnum=2))
    mask = compile_row_mask(plan, fields, {(7, 2): REDACT}, {})
    assert mask is not None
    assert through(mask, b"1", b"bob@example.com", b"other") == (b"1", b"[redacted]", b"other")
    assert through(mask, b"1", None, b"other") == (b"1", None, b"other")


def test_nothing_to_mask_is_no_mask() -> None:
    assert compile_row_mask(MaskPlan(), (field(25),), {}, {}) is None
    assert compile_row_mask(DETECT, (field(16), field(1114), field(23)), {}, {}) is None
    assert compile_row_mask(DETECT, (), {}, {}) is None


def test_lineage_and_origin_together_take_the_stronger() -> None:
    mask = compile_row_mask(MaskPlan(), (field(25, table=7, attnum=2),), {(7, 2): KEEP_4}, {0: REDACT})
    assert mask is not None
    assert through(mask, b"bob@example.com") == (b"[redacted]",)


def test_a_columns_mask_is_not_weakened_by_a_detector() -> None:
    assert through(row_mask(field(25), by_index={0: REDACT}), VISA) == (b"[redacted]",)


def test_a_columns_partial_does_not_keep_what_a_detector_redacts() -> None:
    plan = MaskPlan(detectors=(DetectorMask("CreditCard", REDACT),))
    wide = Strategy("Partial", keep_first=40, keep_last=40)
    mask = compile_row_mask(plan, (field(25, table=7, attnum=2),), {(7, 2): wide}, {})
    assert mask is not None
    note = b"paid by " + VISA + b", thanks; " + b"n" * 80
    assert through(mask, note) == (b"[redacted]",)
    assert through(mask, b"n" * 100) == (b"n" * 40 + b"*" * 20 + b"n" * 40,)


# Detectors by type


@pytest.mark.parametrize("oid", [25, 1043, 1042, 19, 142, 705, 600_000])
def test_text_carries_the_masks_text(oid: int) -> None:
    assert one(oid, b"pay " + VISA) == b"pay ************1111"


@pytest.mark.parametrize("oid", [20, 1700, 701])
def test_a_number_that_is_a_card_becomes_null(oid: int) -> None:
    assert one(oid, VISA) is None
    assert one(oid, b"4111111111111112") == b"4111111111111112"


def test_binary_numbers_that_are_cards_become_null() -> None:
    assert one(20, struct.pack("!q", int(VISA)), 1) is None
    assert one(20, struct.pack("!q", 4222222222222), 1) is None
    assert one(20, struct.pack("!q", -1), 1) == struct.pack("!q", -1)
    assert one(20, struct.pack("!q", 999_999_999_999), 1) == struct.pack("!q", 999_999_999_999)
    assert one(701, struct.pack("!d", float(VISA)), 1) is None
    numeric = struct.pack("!HhHH4H", 4, 3, 0, 0, 4111, 1111, 1111, 1111)
    assert one(1700, numeric, 1) is None
    assert one(1700, numeric[:-2] + struct.pack("!H", 1112), 1) is not None
    assert one(1700, struct.pack("!HhHH", 0, 0, 0xC000, 0), 1) is not None


@pytest.mark.parametrize("form", [0, 1])
def test_dates_times_and_uuids_are_not_searched_for_cards(form: int) -> None:
    assert compile_row_mask(DETECT, (field(2950, form), field(1184, form), field(1082, form)), {}, {}) is None


def test_a_pattern_sees_dates_in_both_formats() -> None:
    plan = MaskPlan(detectors=(DetectorMask("birthday", REDACT, "1980-05-17"),))
    assert one(1082, b"1980-05-17", plan=plan) is None
    assert one(1082, struct.pack("!i", -7168), 1, plan) is None
    assert one(1082, struct.pack("!i", -7167), 1, plan) is not None


def test_json_stays_json() -> None:
    assert one(3802, b'{"card": 4111111111111111, "n": 1}') == b'{"card": "************1111", "n": 1}'
    assert one(114, b'{"e": "x a\\u0040b.de",  "a@b.de": []}') == b'{"e": "x [redacted]",  "[redacted]": []}'
    assert one(114, b"[4.111111111111111e15]") == b'["************1111"]'
    assert one(3802, b'\x01"a@b.de"', 1) == b'\x01"[redacted]"'
    assert one(3802, b"[4111111111111112]") == b"[4111111111111112]"


def test_a_pattern_over_several_json_tokens_withholds_the_document() -> None:
    plan = MaskPlan(detectors=(DetectorMask("p", REDACT, '"ssn": *"[0-9]+"'),))
    assert one(114, b'{"ssn": "123"}', plan=plan) == b'"[redacted]"'


def test_array_literals_stay_arrays() -> None:
    assert one(1009, b'{a@b.de,NULL,"x, y","say \\"a@b.de\\"",{4111111111111111}}') == (
        b'{"[redacted]",NULL,"x, y","say \\"[redacted]\\"",{"************1111"}}'
    )
    assert one(1016, b"[0:1]={4111111111111111,7}") == b"[0:1]={NULL,7}"
    assert one(199, b'{"{\\"c\\": 4111111111111111}"}') == b'{"{\\"c\\": \\"************1111\\"}"}'


def test_what_is_no_array_in_an_array_column_is_withheld() -> None:
    assert one(1009, b"{a@b.de") is None


def test_records_stay_records() -> None:
    assert one(2249, b'(1,a@b.de,"say ""a@b.de""",)') == b'(1,"[redacted]","say \\"[redacted]\\"",)'
    assert one(600_000, b'(1,"(2,a@b.de)")') == b'(1,"(2,\\"[redacted]\\")")'


def array(oid: int, *items: Value, dimensions: tuple[int, ...] = ()) -> bytes:
    shape = dimensions or (len(items),)
    head = struct.pack("!iiI", len(shape), int(None in items), oid) + b"".join(struct.pack("!ii", n, 1) for n in shape)
    return head + b"".join(struct.pack("!i", -1) if i is None else struct.pack("!i", len(i)) + i for i in items)


def test_binary_arrays_are_masked_by_element() -> None:
    assert one(1009, array(25, b"a", None, b"a@b.de", VISA, dimensions=(2, 2)), 1) == array(
        25, b"a", None, b"[redacted]", b"************1111", dimensions=(2, 2)
    )
    assert one(1016, array(20, struct.pack("!q", 7), struct.pack("!q", int(VISA))), 1) == array(
        20, struct.pack("!q", 7), None
    )
    empty = struct.pack("!iiI", 0, 0, 25)
    assert one(1009, empty, 1) == empty


@pytest.mark.parametrize(
    "broken",
    [
        array(25, b"a@b.de")[:-1] + b"",
        struct.pack("!iiI", 7, 0, 25) + b"a@b.de",
        struct.pack("!iiIii", 1, 0, 25, 2_000_000_000, 1) + b"a@b.de",
        b"a@b.de",
    ],
)
def test_a_malformed_binary_array_with_a_hit_is_withheld(broken: bytes) -> None:
    assert one(1009, broken, 1) is None


def test_binary_records_are_masked_by_field() -> None:
    def record(*fields: tuple[int, Value]) -> bytes:
        return struct.pack("!i", len(fields)) + b"".join(
            struct.pack("!I", oid) + (struct.pack("!i", -1) if v is None else struct.pack("!i", len(v)) + v)
            for oid, v in fields
        )

    number = struct.pack("!i", 5)
    assert one(2249, record((23, number), (25, b"a@b.de"), (25, None)), 1) == record(
        (23, number), (25, b"[redacted]"), (25, None)
    )


def test_binary_values_of_unknown_types_are_withheld_on_a_hit() -> None:
    hstore = struct.pack("!ii", 1, 1) + b"k" + struct.pack("!i", 65) + VISA + b" " * 49
    assert one(600_000, hstore, 1) is None
    assert one(600_000, b"\x00\x01nothing here", 1) == b"\x00\x01nothing here"


def test_bytea_is_searched_as_bytes() -> None:
    assert one(17, b"\\x" + VISA.hex().encode()) is None
    assert one(17, b"\\x" + b"a@b.de".hex().encode()) is None
    assert one(17, b"\\x00ff") == b"\\x00ff"
    assert one(17, b"\x00" + VISA, 1) is None


def test_an_inet_is_found_in_both_formats() -> None:
    plan = MaskPlan(detectors=(DetectorMask("IPAddress", REDACT),))
    assert one(869, b"10.1.2.3/8", plan=plan) is None
    assert one(869, b"\x02\x20\x00\x04\x0a\x01\x02\x03", 1, plan) is None


# Column masks by type


def test_a_columns_mask_keeps_the_type_valid() -> None:
    assert by_column(25, b"bob", KEEP_4) == b"***"
    assert by_column(23, b"1234") is None
    assert by_column(23, struct.pack("!i", 7), form=1) is None
    assert by_column(1082, b"1980-05-17", KEEP_4) is None
    assert by_column(17, b"\\x00") is None
    assert by_column(25, b"bob", Strategy("Null")) is None
    assert by_column(3802, b'{"a": 1}') == b'"[redacted]"'
    assert by_column(3802, b'\x01{"a": 1}', form=1) == b'\x01"[redacted]"'
    assert by_column(114, b'"bob@example.com"', KEEP_4) == b'"***********.com"'
    assert by_column(1009, b'{a,NULL,"b c"}') == b'{"[redacted]",NULL,"[redacted]"}'
    assert by_column(1009, array(25, b"a", None), form=1) == array(25, b"[redacted]", None)
    assert by_column(1009, b"{") is None
    assert by_column(1016, b"{1,2}") is None
    assert by_column(600_000, b"happy") == b"[redacted]"
    assert by_column(600_000, b"happy", form=1) is None


# Frames


def test_a_malformed_data_row_is_a_violation() -> None:
    mask = row_mask(field(25), field(25), plan=MaskPlan(), by_index={1: REDACT})
    whole = data_row(b"a", b"b")
    for size in range(5, len(whole)):
        with pytest.raises(ProtocolViolation):
            mask.apply_all(whole[:size])
        cut = whole[:1] + struct.pack("!i", size - 1) + whole[5:size]
        with pytest.raises(ProtocolViolation):
            mask.apply_all(cut)
    with pytest.raises(ProtocolViolation, match="3 columns, but RowDescription announced 2"):
        mask.apply_all(data_row(b"a", b"b", b"c"))
    with pytest.raises(ProtocolViolation):
        mask.apply_all(frame(b"D", struct.pack("!Hi", 2, -2)))


def test_a_row_without_hits_is_the_same_object() -> None:
    row = data_row(b"nothing", b"12345")
    assert row_mask(field(25), field(20)).apply_all(row) is row


def test_a_buffer_of_rows_is_masked_like_its_rows() -> None:
    mask = row_mask(field(25), field(23))
    rows = [data_row(b"row %d " % i + (VISA if i % 37 == 5 else b"-"), b"7") for i in range(200)]
    assert mask.apply_all(b"".join(rows)) == b"".join(mask.apply_all(row) for row in rows)
    clean = data_row(b"a", b"7") * 50
    assert mask.apply_all(clean) is clean
    with pytest.raises(ProtocolViolation):
        mask.apply_all(b"".join(rows)[:-1])


CELLS = st.one_of(
    st.none(),
    st.binary(max_size=12),
    st.text(max_size=30).map(str.encode),
    st.sampled_from([VISA, b"x 4111-1111-1111-1111 y", b"a@b.de", b'{"a@b.de"}', b"4111111111111112"]),
)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=40))
def test_rows_stay_whole_and_other_columns_stay_as_they_are(rows: list[tuple[Value, Value, Value]]) -> None:
    """Column 0 is masked by its origin, column 1 by detectors, column 2 can hold nothing that they look for."""
    mask = row_mask(field(25), field(25), field(16), by_index={0: REDACT})
    buffer = b"".join(data_row(*row) for row in rows)
    masked, position, count = mask.apply_all(buffer), 0, 0
    while position < len(masked):
        length = struct.unpack_from("!i", masked, position + 1)[0]
        shown = parse_data_row(masked[position + 5 : position + 1 + length])
        first, second, third = rows[count]
        assert shown[0] == (None if first is None else b"[redacted]")
        assert shown[2] == third
        if second is None or (VISA not in second and b"@" not in second and b"-1111-" not in second):
            assert shown[1] == second
        assert VISA not in (shown[1] or b"")
        assert b"a@b.de" not in (shown[1] or b"")
        position += 1 + length
        count += 1
    assert count == len(rows)


@given(
    st.sampled_from([20, 25, 114, 1009, 1016, 1700, 2249, 3802, 17, 869, 600_000]),
    st.integers(0, 1),
    st.binary(max_size=80),
)
def test_no_bytes_crash_the_mask(oid: int, form: int, value: bytes) -> None:
    plan = MaskPlan(detectors=(CARD, EMAIL, DetectorMask("IPAddress", REDACT), DetectorMask("p", REDACT, "[xyz]{3}")))
    through(row_mask(field(oid, form), plan=plan), value)
    by_column(oid, value, KEEP_4, form)
