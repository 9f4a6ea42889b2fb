"""Credentials reach neither a log nor a message, in whatever form they travel."""

import base64
import io
import logging
from urllib.parse import quote

import pytest

from circuits.redaction import hide, redacted

CANARY = "CANARY-7f3a/b+c=d&e"


@pytest.fixture(autouse=True)
def _hidden():
    before = logging.getLogRecordFactory()
    hide(CANARY)
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.parametrize(
    "form",
    [
        CANARY,
        quote(CANARY, safe=""),
        base64.b64encode(CANARY.encode()).decode(),
        base64.urlsafe_b64encode(CANARY.encode()).decode(),
        base64.b64encode(b"apikey:" + CANARY.encode()).decode(),
        base64.b64encode(b"ab" + CANARY.encode() + b"xyz").decode(),
    ],
)
def test_every_form_of_a_token_is_hidden(form):
    clean = redacted(f"before {form} after")
    assert clean.startswith("before ")
    assert clean.endswith(" after")
    assert "<hidden>" in clean
    for piece in (CANARY, form[8:-8]):
        assert piece not in clean


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer <hidden>"),
        ('{"access_token": "abc", "expires": 3}', '{"access_token": "<hidden>", "expires": 3}'),
        ("grant_type=x&apikey=abc&y=1", "grant_type=x&apikey=<hidden>&y=1"),
        (
            "crn:v1:bluemix:public:quantum-computing:us-east:a/0123:4567::",
            "crn:v1:bluemix:public:quantum-computing:us-east:a/<hidden>:4567::",
        ),
        ("nothing of the kind", "nothing of the kind"),
    ],
)
def test_what_has_the_shape_of_a_credential_is_hidden(text, stays):
    assert redacted(text) == stays


def test_no_logger_and_no_traceback_shows_it():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    log = logging.getLogger("some.library")
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)
    try:
        log.debug("token %s", CANARY)
        log.info({"token": CANARY})
        log.warning(*("%s and %d", "too few"))
        try:
            raise RuntimeError(f"refused {CANARY}")
        except RuntimeError:
            log.exception("failed with %r", CANARY)
    finally:
        log.removeHandler(handler)
    text = stream.getvalue()
    assert CANARY not in text
    assert text.count("<hidden>") >= 4
    assert "RuntimeError: refused <hidden>" in text


def test_what_is_too_short_to_be_a_secret_hides_nothing():
    hide("a", None, "")
    assert redacted("a bad day") == "a bad day"
