"""The condition language: what it says, how it explains, and that nothing makes it fail."""

from __future__ import annotations

import contextlib
import json
import pickle
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydicom import Dataset

from overread.dicom.match import Condition, ConditionError, Explanation, parse, text
from overread.dicom.study import Origin
from tests.dicom.headers import element, header


def sample() -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    dataset.StudyDescription = "Head BRAIN pre NAV "
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    dataset.PatientName = "Doe^John^^Dr"
    dataset.PatientID = ""
    dataset.PatientAge = "045Y"
    dataset.SliceThickness = "1.50"
    dataset.Rows = 256
    dataset.StudyDate = "20240131"
    dataset.StudyTime = "133015.250"
    dataset.AcquisitionDateTime = "20240131133015+0100"
    dataset.FrameIncrementPointer = 0x00181063
    items = []
    for step, code in (("A1", "brain"), ("B2", "spine")):
        item = Dataset()
        item.ScheduledProcedureStepID = step
        protocol = Dataset()
        protocol.CodeValue = code
        item.ScheduledProtocolCodeSequence = [protocol]
        items.append(item)
    dataset.RequestAttributesSequence = items
    block = dataset.private_block(0x29, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "LO", "Tra>Cor")
    block.add_new(0x11, "DS", "3.5")
    other = dataset.private_block(0x29, "ACME 1.2", create=True)
    inner = Dataset()
    inner.CodeValue = "x"
    other.add_new(0x10, "SQ", [inner])
    return dataset


ORIGIN = Origin("SCANNER", "OVERREAD", "10.0.0.7")

TRUE: list[Any] = [
    "always",
    {"StudyDescription": "head brain PRE nav"},
    {"StudyDescription": {"equals": "Head BRAIN pre NAV"}},
    {"StudyDescription": {"like": "*brain*nav"}},
    {"StudyDescription": {"like": "h?ad*"}},
    {"StudyDescription": {"regex": "BRAIN.*NAV"}},
    {"StudyDescription": {"regex": "(?i)brain"}},
    {"StudyDescription": {"like": "head*", "regex": "NAV$"}},
    {"(0008,1030)": {"like": "head*"}},
    {"SOPClassUID": "MRImageStorage"},
    {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"},
    {"SOPClassUID": {"in": ["CTImageStorage", "MRImageStorage"]}},
    {"SOPClassUID": {"like": "1.2.840.10008.5.1.4.1.1.*"}},
    {"ImageType": "primary"},
    {"ImageType": {"in": ["DERIVED", "ORIGINAL"]}},
    {"ImageType": "ORIGINAL", "not": {"ImageType": "DERIVED"}},
    {"PatientName": "doe^john^^dr"},
    {"PatientName": {"like": "DOE^*"}},
    {"PatientName.family": "Doe"},
    {"PatientName.given": "john"},
    {"PatientName.prefix": "DR"},
    {"PatientAge": "45Y"},
    {"PatientAge": {"range": ["18Y", "65Y"]}},
    {"PatientAge": {"range": ["540M", None]}},
    {"SliceThickness": 1.5},
    {"SliceThickness": "1.5"},
    {"SliceThickness": {"range": [None, 1.5]}},
    {"Rows": {"in": [128, 256]}},
    {"StudyDate": "20240131"},
    {"StudyDate": 20240131},
    {"StudyDate": "2024-01"},
    {"StudyDate": {"range": ["2024-01-31", "2024-01-31"]}},
    {"StudyDate": {"range": ["2023", None]}},
    {"StudyTime": "13:30"},
    {"StudyTime": {"range": ["08:00", "13"]}},
    {"AcquisitionDateTime": {"range": ["2024-01-31 13:00", "2024-01-31T14"]}},
    {"AcquisitionDateTime": "2024-01-31"},
    {"FrameIncrementPointer": "(0018,1063)"},
    {"RequestAttributesSequence.ScheduledProcedureStepID": "b2"},
    {"RequestAttributesSequence.ScheduledProtocolCodeSequence.CodeValue": {"in": ["spine"]}},
    {"(0040,0275).(0040,0009)": "A1"},
    {"RequestAttributesSequence": {"exists": True}},
    {"(0029,xx10)@SIEMENS CSA HEADER": {"like": "tra*"}},
    {"(0029,xx11)@SIEMENS CSA HEADER": {"range": [3, 4]}},
    {"(0029,xx11)@SIEMENS CSA HEADER": 3.5},
    {'(0029,xx10)@"ACME 1.2".CodeValue': "X"},
    {"(0029,xx10)@ACME 1.2": {"exists": True}},
    {"CalledAETitle": "OVERREAD", "CallingAETitle": {"in": ["SCANNER", "OTHER"]}},
    {"PeerAddress": {"like": "10.0.0.*"}},
    {"AccessionNumber": {"exists": False}},
    {"PatientID": {"exists": False}},
    {"not": {"AccessionNumber": "A"}},
    {"not": {"PatientID": "A"}},
    {"any": [{"Modality": "CT"}, {"Rows": 256}]},
    {"all": [{"Rows": 256}, {"not": {"all": [{"Modality": "CT"}, "always"]}}]},
]

FALSE: list[Any] = [
    {"StudyDescription": "head"},
    {"StudyDescription": {"like": "brain"}},
    {"StudyDescription": {"regex": "brain"}},
    {"StudyDescription": {"like": "head*", "regex": "^NAV"}},
    {"StudyDescription": {"exists": False}},
    {"SOPClassUID": "CTImageStorage"},
    {"PatientName.middle": {"exists": True}},
    {"PatientName.given": "doe"},
    {"PatientID": {"exists": True}},
    {"PatientID": {"like": "*"}},
    {"AccessionNumber": {"regex": ".*"}},
    {"AccessionNumber": {"exists": True}},
    {"SliceThickness": 1},
    {"SliceThickness": {"range": [1.6, None]}},
    {"StudyDate": "2024-02"},
    {"StudyTime": {"range": ["13:31", None]}},
    {"CalledAETitle": "overread"},
    {"CallingAETitle": {"like": "scan*"}},
    {"RequestAttributesSequence.ScheduledProtocolCodeSequence.CodeMeaning": {"exists": True}},
    {"(0029,xx12)@SIEMENS CSA HEADER": {"exists": True}},
    {"(0029,xx10)@NOBODY": {"exists": True}},
    {"not": "always"},
    {"Rows": 256, "Modality": "MR"},
    {"any": [{"Modality": "CT"}, {"Rows": 1}]},
]


@pytest.mark.parametrize("rule", TRUE, ids=str)
def test_true(rule: Any) -> None:
    explanation = parse(rule).explain(sample(), ORIGIN)
    assert explanation.true, "\n".join(explanation.lines())


@pytest.mark.parametrize("rule", FALSE, ids=str)
def test_false(rule: Any) -> None:
    explanation = parse(rule).explain(sample(), ORIGIN)
    assert not explanation.true, "\n".join(explanation.lines())


MALFORMED: list[tuple[Any, tuple[str | int, ...], str, str]] = [
    ("sometimes", (), "not a condition", "always"),
    ([{"Modality": "MR"}], (), "not a condition", "all:"),
    (None, (), "null is not a condition", "mapping"),
    ({}, (), "says nothing", "always"),
    ({"always": True}, ("always",), "the key", "alone"),
    ({12: "x"}, (12,), "the key 12", "keyword"),
    ({"StudyDescripton": "x"}, ("StudyDescripton",), "no attribute", "StudyDescription"),
    ({"CallingAETitel": "x"}, ("CallingAETitel",), "no attribute", "CallingAETitle"),
    ({"StudyDescription": {}}, ("StudyDescription",), "no operator", "equals"),
    ({"StudyDescription": {"lke": "x"}}, ("StudyDescription", "lke"), "no operator", "like"),
    ({"Modality": ["MR", "CT"]}, ("Modality",), "bare list", "in:"),
    ({"Modality": {"in": "MR"}}, ("Modality", "in"), "in: 'MR'", "a list"),
    ({"Modality": {"in": []}}, ("Modality", "in"), "in: []", "at least one"),
    ({"Modality": ""}, ("Modality",), "empty text", "exists: false"),
    ({"Modality": None}, ("Modality",), "no value", "text"),
    ({"Modality": {"like": 3}}, ("Modality", "like"), "like: 3", "pattern"),
    ({"Modality": {"exists": "yes"}}, ("Modality", "exists"), "exists: 'yes'", "true or false"),
    ({"PatientID": 12}, ("PatientID",), "not text", "in quotes"),
    ({"Modality": {"range": ["A", "B"]}}, ("Modality", "range"), "of VR CS", "equals"),
    ({"Rows": {"like": "2*"}}, ("Rows", "like"), "of VR US", "range"),
    ({"Rows": "many"}, ("Rows",), "'many'", "a number"),
    ({"Rows": True}, ("Rows",), "True", "number"),
    ({"Rows": {"range": [2, 1]}}, ("Rows", "range"), "empty", "lower end first"),
    ({"Rows": {"range": [None, None]}}, ("Rows", "range"), "range", "lowest"),
    ({"Rows": {"range": 3}}, ("Rows", "range"), "range: 3", "lowest"),
    ({"StudyDate": "31.1.2024"}, ("StudyDate",), "no DA", "2024-01-31"),
    ({"StudyDate": "2024-13"}, ("StudyDate",), "no DA", "2024-01-31"),
    ({"StudyTime": 730}, ("StudyTime",), "no TM", "in quotes"),
    ({"AcquisitionDateTime": "20240131+0100"}, ("AcquisitionDateTime",), "offset", "without"),
    ({"PatientAge": 5}, ("PatientAge",), "5", "18Y"),
    ({"SOPClassUID": "MRImage"}, ("SOPClassUID",), "no UID", "MRImageStorage"),
    ({"PixelData": "x"}, ("PixelData",), "not part of a header", "before PixelData"),
    ({"TransferSyntaxUID": "1.2"}, ("TransferSyntaxUID",), "not part of a header", "data set"),
    ({"RequestAttributesSequence": "x"}, ("RequestAttributesSequence",), "of VR SQ", "exists"),
    ({"Modality.CodeValue": "x"}, ("Modality.CodeValue",), "VR CS", "after a sequence"),
    ({"PatientName.first": "x"}, ("PatientName.first",), "first", "family, given"),
    ({"RequestAttributesSequence.": "x"}, ("RequestAttributesSequence.",), "left over", "dot"),
    ({"(0029,1010)": "x"}, ("(0029,1010)",), "without its creator", "(0029,xx10)@CREATOR"),
    ({"(0028,xx10)@A": "x"}, ("(0028,xx10)@A",), "not private", "odd group"),
    ({"(28,10)": "x"}, ("(28,10)",), "not an address", "gggg"),
    ({"Modality": {"regex": "("}}, ("Modality", "regex"), "regex", "regular expression"),
    ({"Modality": {"regex": "(a+)+b"}}, ("Modality", "regex"), "for ever", "four"),
    ({"Modality": {"regex": "(a|aa)*b"}}, ("Modality", "regex"), "for ever", "four"),
    ({"Modality": {"regex": "(aa?)*b"}}, ("Modality", "regex"), "for ever", "four"),
    ({"Modality": {"regex": "a?" * 30 + "a" * 30}}, ("Modality", "regex"), "for ever", "four"),
    ({"Modality": {"regex": ".*" * 5}}, ("Modality", "regex"), "for ever", "four"),
    ({"Modality": {"regex": "a" * 501}}, ("Modality", "regex"), "501", "at most 500"),
    ({"any": []}, ("any",), "any: []", "a list"),
    ({"all": {"Modality": "MR"}}, ("all",), "all:", "a list"),
    ({"not": [{"Modality": "MR"}]}, ("not",), "not a condition", "mapping"),
    ({"any": ["always", {"not": {"Mod": "x"}}]}, ("any", 1, "not", "Mod"), "no attribute", "PS3.6"),
]


@pytest.mark.parametrize(("rule", "path", "what", "expected"), MALFORMED, ids=lambda v: str(v)[:50])
def test_malformed(rule: Any, path: tuple[str | int, ...], what: str, expected: str) -> None:
    with pytest.raises(ConditionError) as caught:
        parse(rule)
    assert caught.value.path == path
    assert what in caught.value.what
    assert expected in caught.value.expected


def test_every_fault_of_a_condition_is_told() -> None:
    with pytest.raises(ConditionError) as caught:
        parse({"Modalty": "MR", "any": [{"Rows": "x"}, {"Modality": {"is": "MR"}}]})
    assert [fault.path for fault in caught.value.faults] == [
        ("Modalty",),
        ("any", 0, "Rows"),
        ("any", 1, "Modality", "is"),
    ]


def test_a_circle_of_anchors_is_refused() -> None:
    rule: dict[str, Any] = {}
    rule["not"] = rule
    with pytest.raises(ConditionError, match="nested too deep"):
        parse(rule)


def test_it_explains_with_tag_and_value() -> None:
    condition = parse(
        {
            "StudyDescription": {"like": "*SPINE*"},
            "not": {"AccessionNumber": "A1"},
            "PatientID": {"exists": True},
        }
    )
    explanation = condition.explain(sample(), ORIGIN)
    assert explanation.lines() == [
        "✗ all of",
        "  ✗ StudyDescription like '*SPINE*': found 'Head BRAIN pre NAV'",
        "  ✓ not",
        "    ✗ AccessionNumber equals 'A1': absent",
        "  ✗ PatientID exists: empty",
    ]
    data = explanation.to_json()
    assert data["of"][0] == {
        "true": False,
        "condition": "StudyDescription like '*SPINE*'",
        "found": "found 'Head BRAIN pre NAV'",
    }
    assert Explanation.from_json(json.loads(json.dumps(data))) == explanation


def test_text_is_decoded_before_it_is_matched() -> None:
    chinese = header(
        element("SpecificCharacterSet", "CS", b"GB18030 "),
        # the second byte of 廫 and 誠 is 5C, which is a backslash in ASCII
        element("StudyDescription", "LO", "头颅廫誠平扫".encode("gb18030")),
        element("PatientName", "PN", "Wang^XiaoDong=王^小东".encode("gb18030")),
    )
    assert b"\\" in "头颅廫誠平扫".encode("gb18030")
    assert parse({"StudyDescription": {"like": "头颅*平扫"}}).holds(chinese)
    assert parse({"PatientName": "王^小东"}).holds(chinese)
    assert parse({"PatientName.given": "小东"}).holds(chinese)
    assert parse({"PatientName.family": "WANG"}).holds(chinese)
    assert text(chinese, "PatientName") == ("Wang^XiaoDong", "王^小东")

    japanese = header(
        element("SpecificCharacterSet", "CS", b"\\ISO 2022 IR 87 "),
        element("StudyDescription", "LO", b"\x1b$BF,It\x1b(B MR"),
        element(
            "PatientName",
            "PN",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        ),
    )
    assert parse({"StudyDescription": {"regex": "^頭部"}}).holds(japanese)
    assert parse({"PatientName": {"equals": "山田^太郎"}}).holds(japanese)
    assert parse({"PatientName.given": {"in": ["たろう"]}}).holds(japanese)


def test_upper_and_lower_case_are_those_of_unicode() -> None:
    greek = header(
        element("SpecificCharacterSet", "CS", b"ISO_IR 192"),
        element("StudyDescription", "LO", "ΕΓΚΈΦΑΛΟΣ Straße cafe\u0301".encode()),
    )
    assert parse({"StudyDescription": {"like": "εγκέφαλος*"}}).holds(greek)
    assert parse({"StudyDescription": {"like": "*STRASSE*"}}).holds(greek)
    assert parse({"StudyDescription": {"regex": "café$"}}).holds(greek)


def test_what_is_not_what_its_vr_says_matches_nothing_and_is_shown() -> None:
    broken = header(
        element("SliceThickness", "DS", b"thick "),
        element("StudyDate", "DA", b"tomorrow"),
        element("Rows", "US", b"\x01\x02\x03"),
        element("NumberOfFrames", "IS", b"1.5 "),
    )
    for rule in (
        {"SliceThickness": {"range": [None, 100]}},
        {"StudyDate": {"range": ["1900", None]}},
        {"Rows": {"range": [0, None]}},
        {"NumberOfFrames": {"range": [0, 1]}},
    ):
        assert not parse(rule).holds(broken)
    (line,) = parse({"SliceThickness": 3}).explain(broken).lines()
    assert "'thick'" in line


def test_a_private_element_of_implicit_vr_is_read_as_text() -> None:
    implicit = header(
        element(0x00290010, "LO", b"ACME"),
        element(0x00291001, "UN", b"hello "),
        element(0x00291002, "UN", b"\x00\x01\x02\xff"),
    )
    assert parse({"(0029,xx01)@ACME": "HELLO"}).holds(implicit)
    assert not parse({"(0029,xx02)@ACME": {"exists": True}}).holds(implicit)


def test_no_pattern_takes_long() -> None:
    dataset = Dataset()
    dataset.ImageComments = "ab" * 5000
    began = time.perf_counter()
    for rule in (
        {"like": "*a*b*a*b*a*b*a*b*a*b*c"},
        {"like": "*" * 40 + "c"},
        {"regex": ".*a.*b.*a.*c"},
        {"regex": "(?:ab){3,}c"},
    ):
        assert not parse({"ImageComments": rule}).holds(dataset)
    assert time.perf_counter() - began < 20


def test_a_field_annotated_with_it_is_parsed_and_written_back() -> None:
    class Rule(BaseModel):
        when: Condition

    rule = Rule.model_validate({"when": {"Modality": "MR"}})
    assert rule.when == parse({"Modality": "MR"})
    assert rule.model_dump(mode="json") == {"when": {"Modality": "MR"}}
    assert Rule.model_validate(rule.model_dump()) == rule
    assert TypeAdapter(Condition).validate_python(rule.when) is rule.when
    with pytest.raises(ValidationError) as caught:
        Rule.model_validate({"when": {"Modalty": "MR"}})
    assert isinstance(caught.value.errors()[0]["ctx"]["error"], ConditionError)
    copy = pickle.loads(pickle.dumps(rule.when))  # noqa: S301  (made here)
    assert copy == rule.when
    assert copy.holds(sample()) == rule.when.holds(sample())
    assert len({copy, rule.when}) == 1


KEYWORDS = [
    "StudyDescription", "ImageType", "PatientName", "PatientName.given", "PatientAge", "Rows",
    "SliceThickness", "NumberOfFrames", "StudyDate", "StudyTime", "AcquisitionDateTime",
    "SOPClassUID", "RequestAttributesSequence",
    "RequestAttributesSequence.ScheduledProcedureStepID",
    "(0029,xx10)@ACME", "(0019,xx01)@B.Rows", "CalledAETitle", "PeerAddress",
    "FrameIncrementPointer",
    "PixelPaddingValue", "RedPaletteColorLookupTableData", "(0008,9999)", "ImageComments",
]  # fmt: skip
SCALARS = st.one_of(
    st.sampled_from(
        ["MR", "2024-01-31", "13:30", "45Y", "MRImageStorage", "1.2", "*A*", "a.*b", ""]
    ),
    st.integers(-5, 3000),
    st.floats(),
    st.none(),
    st.booleans(),
    st.text(max_size=5),
)
OPERATORS = ["equals", "like", "regex", "in", "range", "exists", "other"]
CONDITIONS = st.recursive(
    st.one_of(
        st.just("always"),
        st.dictionaries(st.sampled_from(KEYWORDS), SCALARS, max_size=2),
        st.dictionaries(
            st.sampled_from(KEYWORDS),
            st.dictionaries(
                st.sampled_from(OPERATORS), st.one_of(SCALARS, st.lists(SCALARS, max_size=3))
            ),
            max_size=2,
        ),
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"not": inner}),
        st.dictionaries(st.sampled_from(["any", "all"]), st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=6,
)
VRS = sorted(
    {"AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "OB", "OW", "PN", "SH",
     "SL", "SQ", "SS", "ST", "SV", "TM", "UC", "UI", "UL", "UN", "UR", "US", "UT", "UV", "ZZ"}
)  # fmt: skip
TAGS = [
    0x00080005, 0x00081030, 0x00080008, 0x00100010, 0x00101010, 0x00280010, 0x00180050, 0x00280008,
    0x00080020, 0x00080030, 0x0008002A, 0x00080016, 0x00400275, 0x00190010, 0x00191001, 0x00290010,
    0x00291010, 0x00280009, 0x00280120, 0x00281201, 0x00089999, 0x00204000,
]  # fmt: skip
BYTES = st.one_of(
    st.binary(max_size=24),
    st.sampled_from([
        b"ACME", b"B ", b"GB18030", b"\\ISO 2022 IR 87", b"nonsense", b"1.5\\x\\",
        b"1e999999", b"NaN",
        b"20240131", b"\x1b$B\xff\xff", b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"\\\\\\",
        b"^^=^=", b"9" * 40,
        b"\xfe\xff\x00\xe0\x0a\x00\x00\x00\x40\x00\x09\x00SH\x02\x00A1",
    ]),
)  # fmt: skip


Elements = dict[int, tuple[str, bytes]]
HEADERS = st.dictionaries(
    st.sampled_from(TAGS), st.tuples(st.sampled_from(VRS), BYTES), max_size=8
)  # the elements, not a Dataset, as a Dataset that cannot be read cannot be shown either


def build(elements: Elements) -> Dataset:
    dataset = Dataset()
    for tag, (vr, value) in elements.items():
        with contextlib.suppress(Exception):  # what pydicom cannot even read is quarantined
            dataset.update(header(element(tag, vr, value))._dict)
    return dataset


def parsed(rule: Any) -> Condition | None:
    try:
        return parse(rule)
    except ConditionError as error:
        assert error.faults
        assert all(fault.what and fault.expected for fault in error.faults)
        return None


SETTINGS = settings(
    max_examples=6000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@SETTINGS
@pytest.mark.filterwarnings("ignore")
@given(rule=CONDITIONS, elements=HEADERS, name=st.text(max_size=5))
def test_it_answers_for_any_header_whatsoever(rule: Any, elements: Elements, name: str) -> None:
    dataset = build(elements)
    condition = parsed(rule)
    if condition is not None:
        explanation = condition.explain(dataset, Origin(name, name, name))
        assert Explanation.from_json(json.loads(json.dumps(explanation.to_json()))) == explanation
        assert len(explanation.lines()) >= 1
        assert parse(condition.source) == condition
    for tag in TAGS:
        if not (tag >> 16) % 2:
            assert all(value == value.strip(" \0\t\r\n") != "" for value in text(dataset, tag))


@SETTINGS
@pytest.mark.filterwarnings("ignore")
@given(rules=st.lists(CONDITIONS, min_size=1, max_size=3), elements=HEADERS)
def test_not_any_and_all_are_those_of_logic(rules: list[Any], elements: Elements) -> None:
    dataset = build(elements)
    conditions = [condition for condition in map(parsed, rules) if condition is not None]
    if not conditions:
        return
    truths = [condition.holds(dataset) for condition in conditions]
    sources = [condition.source for condition in conditions]
    assert parse({"any": sources}).holds(dataset) == any(truths)
    assert parse({"all": sources}).holds(dataset) == all(truths)
    assert parse({"not": sources[0]}).holds(dataset) is not truths[0]


def test_it_answers_with_warnings_raised_as_errors() -> None:
    import warnings

    bad = header(
        element("SpecificCharacterSet", "CS", b"nonsense"),
        element("StudyDescription", "LO", b"caf\xe9"),
        element("SOPClassUID", "UI", b"not a uid "),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not parse({"StudyDescription": "x", "SOPClassUID": "MRImageStorage"}).holds(bad)
