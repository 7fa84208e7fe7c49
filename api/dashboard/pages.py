"""`/` and the files below it: no key is needed for them, for they hold no data."""

from __future__ import annotations

import json

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.access import Serving
from api.caching import is_known
from api.dashboard.files import INDEX, PREFIX, File, read_files
from api.problems import Problem
from store.schema import evoloom_version

router = APIRouter(include_in_schema=False)
# Nothing from elsewhere, no script or style in the page itself, no eval, and no text that becomes
# markup: a page that tries is stopped by the browser.
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_FILES = read_files()


@router.get("/")
def get_index(request: Request) -> Response:
    """The page that all others are made in."""
    return _send(request, _FILES[INDEX])


@router.get(PREFIX + "about.json")
def get_about(service: Serving) -> Response:
    """What the page must know before it has a key."""
    about = {"auth": service.settings.api.auth, "version": evoloom_version()}
    return Response(json.dumps(about), headers=_HEADERS, media_type="application/json")


@router.get(PREFIX + "{name:path}")
def get_file(request: Request, name: str) -> Response:
    """A script, a style sheet or a picture of the page."""
    file = _FILES.get(name)
    if file is None or name == INDEX:
        raise Problem(404, "not_found", "the dashboard has no such file")
    return _send(request, file)


def _send(request: Request, file: File) -> Response:
    headers = {**_HEADERS, "ETag": file.etag}
    if is_known(request, file.etag):
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)
