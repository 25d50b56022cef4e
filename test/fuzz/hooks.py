"""Fuzzes REST with an account (WITH_ACCOUNT=1) or without one, and looks for what no schema forbids."""

import itertools
import os
import re
import secrets

import requests
import schemathesis

# Each uses up the session that it is called with.
ENDS_SESSION = {"authLogout", "authEndSession", "authChangePassword"}

LEAK = re.compile(
    r"node_modules|\bat [\w.<>]+ \(|\.(?:js|ts):\d+|\bSELECT\b.+\bFROM\b|\bINSERT INTO\b|\bUPDATE \w+ SET\b|SQLSTATE|"
    r"pg_catalog|syntax error at|violates \w+ constraint|relation \"",
)


@schemathesis.hook
def before_load_schema(context, raw_schema):
    # The same set, or a part of it; the tool can't make values of the other way to write it.
    def portable(part):
        if isinstance(part, list):
            for item in part:
                portable(item)
        if isinstance(part, dict):
            if part.get("pattern") == r"^\P{Cc}+$":
                part["pattern"] = r"^[^\x00-\x1f\x7f-\x9f]+$"
            if str(part.get("pattern")).startswith(r"^[\p{L}"):
                part["pattern"] = r"^[A-Za-z0-9_.-]+$"
            for item in part.values():
                portable(item)

    portable(raw_schema)


@schemathesis.check
def tells_nothing_of_the_inside(ctx, response, case):
    if case.operation.path.startswith("/docs") or response.status_code < 400:
        return  # what people wrote may look like anything
    found = LEAK.search(response.text)
    assert found is None, f"the answer tells of the inside: {found.group(0)}"


@schemathesis.check
def is_unavailable_only_when_overloaded(ctx, response, case):
    assert response.status_code != 503 or response.json()["code"] == "overloaded", response.text


if os.environ.get("WITH_ACCOUNT"):
    names = itertools.count()

    @schemathesis.auth(refresh_interval=None)
    class Account:
        token = None

        def get(self, case, ctx):
            if self.token is not None and ctx.operation.definition.raw["operationId"] not in ENDS_SESSION:
                return self.token
            name = f"fuzz_{secrets.token_hex(6)}_{next(names)}"
            base = case.operation.schema.get_base_url().rstrip("/")
            body = {"username": name, "email": f"{name}@example.org", "password": "a password of the fuzzing"}
            token = requests.post(f"{base}/auth/register", json=body, timeout=10).json()["tokens"]["accessToken"]
            self.token = self.token or token
            return token

        def set(self, case, token, ctx):
            case.headers["Authorization"] = f"Bearer {token}"
