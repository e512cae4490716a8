"""How the user whose stacks these are logs in, where there is a Keystone."""

from collections.abc import Mapping
from typing import Any

import requests
from keystoneauth1.identity.v3 import Password
from keystoneauth1.session import Session
from requests.auth import AuthBase

from lab.http import local_session


class Login(AuthBase):
    """Puts the user's token on each request, and gets a new one in time.

    :param account: what keystoneauth's password plugin wants to know, as `auth_url`, `username` and `password`.
    """

    def __init__(self, account: Mapping[str, Any]) -> None:
        self._user = account["username"]
        self._session = Session(Password(**account), session=local_session())

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Say in a request who sends it."""
        request.headers.update(self._session.get_auth_headers() or {})
        # Else heat-api-cfn wants a signature, and doesn't look at the token.
        request.headers["X-Auth-User"] = self._user
        return request

    @property
    def project_id(self) -> str:
        """The project that the user logs in to."""
        return str(self._session.get_project_id())
