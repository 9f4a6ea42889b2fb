"""Credentials kept out of logs and messages.

Whoever reads a credential calls :func:`hide` with it. From then on :func:`redacted` takes it out of a text, whether as
it is, in base64 or as part of an address, and so does every log record of this process, of any library and at any
level, before a handler sees it.
"""

from __future__ import annotations

import base64
import logging
import os
import re
import stat
import traceback
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

__all__ = ["hide", "redacted", "warn_if_readable"]

MASK = "<hidden>"
_MIN_LENGTH = 4
_hidden: dict[str, None] = {}
_SHAPES = (
    (re.compile(r"(?i)(bearer\s+)[\w\-.~+/=]+"), rf"\g<1>{MASK}"),
    (
        re.compile(
            r"(?i)(\b(?:apikey|access_token|refresh_token|x-auth-token)\b[\"']?\s*[:=]\s*[\"']?)[^\"'&\s,}]+"
        ),
        rf"\g<1>{MASK}",
    ),
    (re.compile(r"(crn:v1:[^:\s]*:[^:\s]*:[^:\s]*:[^:\s]*:a/)[^:\s]+"), rf"\g<1>{MASK}"),
)


def hide(*secrets: str | None) -> None:
    """Take these texts out of all log records and of whatever goes through ``redacted`` from now on."""
    for secret in secrets:
        if secret is None or len(secret) < _MIN_LENGTH:
            continue
        body = secret.encode()
        forms = {secret, quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1]}
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            # as a whole, and at the other two offsets that it can have inside something that is encoded with it
            forms.add(encode(body).decode().rstrip("="))
            for offset in (1, 2):
                inner = encode(b"\0" * offset + body).decode().rstrip("=")
                forms.add(inner[offset + 1 : -2] if len(inner) > offset + 7 else secret)
        for form in sorted(forms, key=len, reverse=True):
            _hidden.setdefault(form)
    _watch_logs()


def warn_if_readable(file: str | Path) -> None:
    """Warn of a file with credentials that group or others can read."""
    if os.name == "posix" and Path(file).stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        text = f"credentials: {file} can be read by others; chmod 600 {file}"
        warnings.warn(text, UserWarning, stacklevel=3)


def redacted(text: str) -> str:
    """The text without credentials: those that are hidden, and what has the shape of one."""
    for secret in _hidden:
        if secret in text:
            text = text.replace(secret, MASK)
    for shape, mask in _SHAPES:
        text = shape.sub(mask, text)
    return text


class _Watch:
    """Makes log records as the factory before it did, and takes credentials out of them."""

    def __init__(self, before: Any) -> None:
        self._before = before

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._before(*args, **kwargs)
        try:
            said = record.getMessage()
        except Exception:  # the caller's mistake, which its handler reports without arguments
            record.msg, record.args = redacted(str(record.msg)), ()
        else:
            clean = redacted(said)
            if clean != said:
                record.msg, record.args = clean, ()
        if record.exc_info and record.exc_info[0] is not None:
            # a formatter takes this text where it is there, and would make its own of the exception otherwise
            record.exc_text = redacted("".join(traceback.format_exception(*record.exc_info)).rstrip())
        return record


def _watch_logs() -> None:
    factory = logging.getLogRecordFactory()
    if not isinstance(factory, _Watch):
        logging.setLogRecordFactory(_Watch(factory))
