"""Causes, their exit codes, and how the texts of errors are told apart."""

import re
from collections.abc import Iterable

# Below 20 and at 30 and 40 another attempt may help; from 20 to 29, at 31 and at 32 it cannot. docs/runner.md has the table.
CODES = {
    "Succeeded": 0,
    "SamplesFailed": 10,
    "ModelUnavailable": 11,
    "ModelRateLimited": 12,
    "DatasetUnavailable": 13,
    "InvalidRun": 20,
    "EnvMissing": 21,
    "ModelAuthFailed": 22,
    "DatasetAccessDenied": 23,
    "UnknownTask": 24,
    "SelfGrading": 25,
    "ModelNotFound": 26,
    "JudgeAuthFailed": 27,
    "PackageMissing": 28,
    "DatasetMissing": 29,
    "ResultsNotStored": 30,
    "Unscored": 31,
    "ResultsDenied": 32,
    "Unknown": 40,
    "Cancelled": 143,
}

# The first rule that fits decides. The Hub's stand before the model's: both speak of 401, 403 and 429.
_RULES = [
    ("SelfGrading", r"NoneModelError|No model specified|model api for none|model='none'|none/none"),
    (
        "EnvMissing",
        r"Unable to initiali[sz]e \S+ client|No \S+ defined in the environment|"
        r"environment variables? .{0,80}(?:not set|not found|required)|(?:HF|HUGGINGFACE)_TOKEN.{0,60}(?:not set|required)|"
        r"api_key.{0,60}must be set",
    ),
    (
        "PackageMissing",
        r"ModuleNotFoundError|No module named|requires .{0,60}optional dependenc|install the optional dependenc|"
        r"ERROR: .{0,80} requires the following packages",
    ),
    (
        "UnknownTask",
        r"No inspect tasks were found|Task named .{0,120} not found|Tasks? not found|No tasks (?:were )?found",
    ),
    (
        "DatasetAccessDenied",
        r"GatedRepoError|is a gated (?:dataset|repo)|Access to (?:dataset|model) \S+ is restricted|Cannot access gated repo|"
        r"40[13] Client Error.{0,300}/(?:datasets|resolve)/",
    ),
    ("DatasetUnavailable", r"An error happened while trying to locate the file on the Hub"),
    (
        "DatasetMissing",
        r"OfflineModeIsEnabled|LocalEntryNotFoundError|RepositoryNotFoundError|DatasetNotFoundError|"
        r"Couldn't find (?:the )?cache|Couldn't find .{0,120} on the Hugging Face Hub|doesn't exist on the Hub",
    ),
    (
        "DatasetUnavailable",
        r"HfHubHTTPError|Couldn't reach .{0,160}Hub|"
        r"(?:429|5\d\d) (?:Client|Server) Error.{0,300}/(?:datasets|resolve)/|"
        r"(?:huggingface\.co|githubusercontent\.com|blob\.core\.windows\.net).{0,300}"
        r"(?:Max retries|resolve|timed out|unreachable|refused)",
    ),
    (
        "ModelAuthFailed",
        r"AuthenticationError|PermissionDeniedError|Error code: 40[13]|40[13] Client Error|invalid_api_key|ClientResponseError: 40[13]\b",
    ),
    ("ModelRateLimited", r"RateLimitError|Error code: 429|429 Client Error|ClientResponseError: 429\b|rate_limit_exceeded|insufficient_quota"),
    ("ModelNotFound", r"\bNotFoundError|Error code: 404|404 Client Error|ClientResponseError: 404\b|model_not_found"),
    (
        "ModelUnavailable",
        r"APIConnectionError|APITimeoutError|InternalServerError|APIResponseValidationError|Error code: 5\d\d|5\d\d Server Error|ClientResponseError: 5\d\d|"
        r"ConnectError|ConnectionError|ServerDisconnectedError|ClientPayloadError|ReadTimeout|RemoteProtocolError|JSONDecodeError|AttemptTimeoutError",
    ),
    ("DatasetUnavailable", r"URLError|getaddrinfo|Temporary failure in name resolution|Network is unreachable"),
    ("InvalidRun", r"Model API .{0,80}not recognized|should be in the format of <api_name>|PrerequisiteError|unexpected keyword argument"),
]
_COMPILED = [(cause, re.compile(pattern, re.DOTALL)) for cause, pattern in _RULES]
_LONGEST_MESSAGE = 300


class Failure(Exception):
    """An end of the run whose cause is known."""

    def __init__(self, cause: str, message: str):
        super().__init__(message)
        self.cause, self.message = cause, message


def classify(text: str) -> str:
    """The cause that an error's text tells, `Unknown` where no rule fits."""
    return next((cause for cause, pattern in _COMPILED if pattern.search(text)), "Unknown")


def first_known(texts: Iterable[str]) -> str:
    """The cause of the first text that tells one: put the most telling one first."""
    return next((cause for text in texts if (cause := classify(text)) != "Unknown"), "Unknown")


def chain(error: BaseException) -> str:
    """An exception and what led to it, one a line. Frames are left out: they hold values."""
    lines: list[str] = []
    current: BaseException | None = error
    while current is not None and len(lines) < 8:
        # Inspect's own errors keep their text in a field.
        lines.append(f"{type(current).__name__}: {getattr(current, 'message', None) or current}")
        current = current.__cause__ or current.__context__
    return "\n".join(lines)


def sentence(text: str) -> str:
    """One line that says what happened: the server's own words where retries wrap them, else the text's beginning.

    Cuts, so the text must have been scrubbed before: half a key is found by nobody.
    """
    found = re.search(r"Error code: \d{3} - .*", text)
    words = re.sub(r"\[/?(?:bold|blue|red|yellow)\]", "", found[0] if found else text).split()
    return " ".join(words)[:_LONGEST_MESSAGE]
