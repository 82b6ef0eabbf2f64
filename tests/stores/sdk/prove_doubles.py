"""Drives the doubles of Google Secret Manager and Azure Key Vault with the vendors' own clients.

Arguments: Google's address, its project, the vault's address, the vault's CA, a token that both know.
"""

import sys
import time

from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.keyvault.secrets import SecretClient
from google.api_core import exceptions
from google.auth.exceptions import RefreshError
from google.cloud import secretmanager_v1
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import SecretManagerServiceRestTransport
from google.oauth2.credentials import Credentials

HIDDEN = b"\x00\xff a value"


def refused(error, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except error as answer:
        return answer
    raise AssertionError(f"{error.__name__} was expected")


def crc32c(data):
    """The checksum of RFC 3720, bit by bit."""
    rest = 0xFFFFFFFF
    for byte in data:
        rest ^= byte
        for _ in range(8):
            rest = (rest >> 1) ^ (0x82F63B78 if rest & 1 else 0)
    return rest ^ 0xFFFFFFFF


def google(address, project, token):
    transport = SecretManagerServiceRestTransport(
        credentials=Credentials(token), host=address.removeprefix("http://"), url_scheme="http"
    )
    client = secretmanager_v1.SecretManagerServiceClient(transport=transport)
    parent = f"projects/{project}"
    secret = f"{parent}/secrets/sdk-A_KEY"
    named = {"parent": parent, "secret_id": "sdk-A_KEY", "secret": {"replication": {"automatic": {}}}}
    client.create_secret(request=named)
    refused(exceptions.Conflict, client.create_secret, request=named)

    for data in (b"first", HIDDEN):
        payload = {"data": data, "data_crc32c": crc32c(data)}
        version = client.add_secret_version(request={"parent": secret, "payload": payload})
    assert version.state.name == "ENABLED" and version.name.endswith("/secrets/sdk-A_KEY/versions/2"), version.name
    wrong = {"parent": secret, "payload": {"data": b"x", "data_crc32c": 1}}
    refused(exceptions.BadRequest, client.add_secret_version, request=wrong)

    def access(version):
        return client.access_secret_version(request={"name": f"{secret}/versions/{version}"})

    found = access("latest")
    assert found.payload.data == HIDDEN and found.payload.data_crc32c == crc32c(HIDDEN)
    assert not found.name.startswith(parent), "answers bear the project's number"
    assert access(1).payload.data == b"first"
    refused(exceptions.NotFound, access, 7)
    client.disable_secret_version(request={"name": f"{secret}/versions/2"})
    assert "DISABLED" in str(refused(exceptions.BadRequest, access, "latest"))
    client.enable_secret_version(request={"name": f"{secret}/versions/2"})
    client.destroy_secret_version(request={"name": f"{secret}/versions/1"})
    assert "DESTROYED" in str(refused(exceptions.BadRequest, access, 1))
    refused(exceptions.BadRequest, client.enable_secret_version, request={"name": f"{secret}/versions/1"})

    for number in range(4):
        client.add_secret_version(request={"parent": secret, "payload": {"data": b"%d" % number}})
        client.create_secret(request={**named, "secret_id": f"sdk-{number}"})
    versions = [version.name.rpartition("/")[2] for version in client.list_secret_versions(request={"parent": secret})]
    assert versions == ["6", "5", "4", "3", "2", "1"], versions
    names = [found.name.rpartition("/")[2] for found in client.list_secrets(request={"parent": parent})]
    assert names == ["sdk-0", "sdk-1", "sdk-2", "sdk-3", "sdk-A_KEY"], names
    client.delete_secret(request={"name": secret})
    refused(exceptions.NotFound, access, "latest")

    unknown = SecretManagerServiceRestTransport(
        credentials=Credentials("unknown"), host=address.removeprefix("http://"), url_scheme="http"
    )
    stranger = secretmanager_v1.SecretManagerServiceClient(transport=unknown)
    request = {"name": f"{parent}/secrets/sdk-0/versions/latest"}
    # A token that is refused makes the client ask for another, which this credential cannot.
    refused(RefreshError, stranger.access_secret_version, request=request)
    print("Google: as expected")


class Known:
    """A credential that has its token already."""

    def __init__(self, token):
        self.token = token
        self.scopes = []

    def get_token(self, *scopes, **_):
        self.scopes += scopes
        return AccessToken(self.token, int(time.time()) + 3600)


def azure(vault, ca, token):
    credential = Known(token)
    client = SecretClient(
        vault_url=vault,
        credential=credential,
        api_version="2025-07-01",
        connection_verify=ca,
        verify_challenge_resource=False,
        retry_total=0,
    )
    refused(ResourceNotFoundError, client.get_secret, "sdk-key")
    assert credential.scopes[:1] == ["https://vault.azure.net/.default"], "the challenge says what for"
    first = client.set_secret("sdk-key", "first", content_type="text/plain").properties.version
    second = client.set_secret("sdk-key", "second").properties.version
    found = client.get_secret("SDK-Key")
    assert (found.value, found.properties.version, found.name) == ("second", second, "sdk-key")
    assert found.properties.enabled and found.properties.recovery_level == "Recoverable+Purgeable"
    pinned = client.get_secret("sdk-key", first)
    assert (pinned.value, pinned.properties.content_type) == ("first", "text/plain")

    client.update_secret_properties("sdk-key", second, enabled=False)
    assert refused(HttpResponseError, client.get_secret, "sdk-key").error.innererror["code"] == "SecretDisabled"
    for number in range(4):
        client.set_secret("sdk-key", str(number))
        client.set_secret(f"sdk-{number}", "x")
    assert len(list(client.list_properties_of_secret_versions("sdk-key"))) == 6
    names = sorted(found.name for found in client.list_properties_of_secrets())
    assert names == ["sdk-0", "sdk-1", "sdk-2", "sdk-3", "sdk-key"], names

    client.begin_delete_secret("sdk-key").wait()
    refused(ResourceNotFoundError, client.get_secret, "sdk-key")
    refused(ResourceExistsError, client.set_secret, "sdk-key", "x")
    client.begin_recover_deleted_secret("sdk-key").wait()
    assert client.get_secret("sdk-key").value == "3"
    client.begin_delete_secret("sdk-key").wait()
    client.purge_deleted_secret("sdk-key")
    refused(ResourceNotFoundError, client.get_deleted_secret, "sdk-key")
    print("Azure: as expected")


if __name__ == "__main__":
    google_address, project, vault, ca, token = sys.argv[1:]
    google(google_address, project, token)
    azure(vault, ca, token)
