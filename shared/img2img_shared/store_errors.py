"""Describes errors of the object store's library in a few words, and says whether a retry may help."""

import errno
import os
import re

from obstore.exceptions import GenericError

_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS, or AZURE_STORAGE_…"
)
#: errors of a folder that may pass: too many open files, interrupted, disk or quota full, a server away
_PASSING = (
    *(errno.EMFILE, errno.ENFILE, errno.EINTR, errno.EAGAIN, errno.ENOSPC, errno.EDQUOT, errno.EIO),
    *(errno.ESTALE, errno.ETIMEDOUT),
)

#: S3's errors with a status of 4xx that pass: it waited for the body in vain, or others wrote at that moment
_PASSING_CODES = re.compile(
    r"<Code>(RequestTimeout|IncompleteBody|OperationAborted|ConditionalRequestConflict)<"
)
#: what whoever runs the farm has to mend, by S3's code for it
_MENDABLE = {
    "RequestTimeTooSkewed": "the clocks of the store and of this machine differ",
    "ExpiredToken": "the credentials have expired",
    "InvalidAccessKeyId": "the store does not know the credentials",
    "SignatureDoesNotMatch": "the credentials are wrong",
    "NoSuchBucket": "the bucket does not exist",
}
#: errors of a folder that whoever runs the farm has to mend: it belongs to another user, or is read-only
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
#: S3's answer to a header that it does not know, such as If-None-Match
_UNSUPPORTED = re.compile(r"\b501 Not Implemented\b")


def why(error: Exception) -> str:
    """The library's message without its paths, addresses, internals and XML."""
    text = str(error)
    if _asks_for_credentials(error):
        return f"no credentials in the environment ({_CREDENTIALS})"
    if (number := _os_error(error)) is not None:
        return os.strerror(number)
    if found := re.search(r"status code: (\d{3}[^:<]*)", text):
        code = _code(error)
        told = f"the server answers {found[1].strip()}" + (f" ({code})" if code else "")
        return f"{told}, as {_MENDABLE[code]}" if code in _MENDABLE else told
    if "HTTP error" in text:
        return "the server does not answer"
    return text.split("\n\nDebug source")[0].replace("\n", " ").strip()[:400]


def is_mendable(error: Exception) -> bool:
    """Whether the same call succeeds once whoever runs the farm has mended a clock, credentials or rights."""
    if _os_error(error) in _FORBIDDEN or _asks_for_credentials(error):
        return True
    return _code(error) in _MENDABLE or bool(re.search(r"status code: 40[13]\b", str(error)))


def is_transient(error: Exception) -> bool:
    """Whether the same call may succeed later."""
    if (number := _os_error(error)) is not None:
        return number in _PASSING
    if _PASSING_CODES.search(str(error)):
        return True
    if not isinstance(error, GenericError) or is_unsupported(error):
        return False
    # else a server does not answer, or answers 5xx even to retries; a 4xx never mends by itself
    return not re.search(r"\b4(?!08|29)\d\d [A-Z]|builder error|missing", str(error))


def is_unsupported(error: BaseException | None) -> bool:
    """Whether the server says that it has not got what it was asked for."""
    return bool(_UNSUPPORTED.search(str(error)))


def _asks_for_credentials(error: Exception) -> bool:
    """Whether the library asks the machine's metadata service, where it looks for credentials last."""
    return bool(re.search(r"169\.254\.169\.254|metadata\.google", str(error)))


def _code(error: Exception) -> str | None:
    """S3's code for it."""
    found = re.search(r"<Code>(\w+)</Code>", str(error))
    return found[1] if found else None


def _os_error(error: Exception) -> int | None:
    """The operating system's error number, if a system call failed."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found and "HTTP error" not in str(error) else None
