"""Texts as they were seen, and what they tell."""

from pathlib import Path

import pytest

from conftest import HERE
from daypass_runner.causes import CODES, classify, sentence


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("RetryError(<Future at 0x7f state=finished raised RateLimitError>)", "ModelRateLimited"),
        ("Error code: 429 - {'error': {'message': 'quota', 'type': 'insufficient_quota'}}", "ModelRateLimited"),
        ("openai.InternalServerError: Error code: 502 - bad gateway", "ModelUnavailable"),
        ("APIConnectionError: Connection error.", "ModelUnavailable"),
        ("openai.NotFoundError: Error code: 404 - no such model", "ModelNotFound"),
        ("PermissionDeniedError: Error code: 403 - no", "ModelAuthFailed"),
        ("requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: http://m/v1/chat/completions", "ModelAuthFailed"),
        ("DatasetNotFoundError: Dataset 'a/b' is a gated dataset on the Hub. You must be authenticated to access it.", "DatasetAccessDenied"),
        ("Dataset 'a/b' is a gated dataset on the Hub. Visit the dataset page at https://… to ask for access.", "DatasetAccessDenied"),
        ("403 Client Error: Forbidden for url: https://hub/datasets/a/b/resolve/main/x.csv", "DatasetAccessDenied"),
        ("DatasetNotFoundError: Dataset 'a/b' doesn't exist on the Hub or cannot be accessed.", "DatasetMissing"),
        ("Couldn't find cache for openai/gsm8k for config 'default-data_dir=main'", "DatasetMissing"),
        ("OfflineModeIsEnabled: Cannot reach the Hub: offline mode is enabled.", "DatasetMissing"),
        ("LocalEntryNotFoundError: An error happened while trying to locate the file on the Hub and we cannot find it", "DatasetUnavailable"),
        ("429 Client Error: Too Many Requests for url: https://huggingface.co/datasets/a/b/resolve/main/x", "DatasetUnavailable"),
        ("503 Server Error: Service Unavailable for url: https://hub/api/datasets/a/b", "DatasetUnavailable"),
        ("[Errno -3] Temporary failure in name resolution", "DatasetUnavailable"),
        ("Unable to initialise target client\n\nNo TARGET_API_KEY defined in the environment.", "EnvMissing"),
        ("ModuleNotFoundError: No module named 'torch'", "PackageMissing"),
        ("No inspect tasks were found at the specified paths.", "UnknownTask"),
        ("Model API foo of model foo/bar not recognized.", "InvalidRun"),
        ("aiohttp.client_exceptions.ClientResponseError: 404, message='Not Found', url='http://m/v1/chat/completions'", "ModelNotFound"),
        ("aiohttp.client_exceptions.ClientResponseError: 503, message='…', url='http://m/v1/chat/completions'", "ModelUnavailable"),
        ("aiohttp.client_exceptions.ServerDisconnectedError: Server disconnected", "ModelUnavailable"),
        ("ValueError: the answer has no number", "Unknown"),
    ],
)
def test_texts(text: str, cause: str) -> None:
    assert classify(text) == cause


def test_the_servers_own_words_are_the_message() -> None:
    text = "RetryError: …\nTraceback\n  openai.RateLimitError: Error code: 429 - Rate limit\nmore"
    assert sentence(text) == "Error code: 429 - Rate limit"
    assert len(sentence("x" * 1000)) == 300


def test_the_table_in_the_docs_is_this_one() -> None:
    lines = Path(HERE.parents[2], "docs/runner.md").read_text().splitlines()
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    table = {row[1]: int(row[0]) for row in rows if len(row) == 4 and row[0].isdigit()}
    assert table == CODES
