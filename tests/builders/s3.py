"""An S3 small enough to see through: one bucket in memory behind HTTP, which checks every signature with botocore."""

import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote
from xml.sax.saxutils import escape, unescape

from aiohttp import web
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

ACCESS_KEY, SECRET_KEY, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-central-1"
LIST_PAGE = 2  # keys a page, so that every list of more has several
Headers = list[tuple[str, str]]


class PaperS3:
    """Objects by key, parts of uploads, and a switch for outages."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, datetime]] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.away = False
        self.refused: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.away:
            return web.Response(status=503)
        body = await request.read()
        if problem := _signature_problem(request, body):
            self.refused.append(problem)
            return web.Response(status=403, text=f"<Error><Code>SignatureDoesNotMatch</Code><Message>{problem}</Message></Error>")
        key = request.path.removeprefix("/bucket").removeprefix("/")
        match request.method, bool(key):
            case "GET", False:
                return self._list(request)
            case "GET" | "HEAD", True:
                return self._get(key)
            case "PUT", True:
                return self._put(request, key, body)
            case "POST", True:
                return self._post(request, key)
            case "POST", False:
                keys = re.findall(r"<Key>(.*?)</Key>", body.decode())
                for name in keys:
                    self.objects.pop(unescape(name), None)
                told = "".join(f"<Deleted><Key>{name}</Key></Deleted>" for name in keys)
                return web.Response(text=f"<DeleteResult>{told}</DeleteResult>", content_type="application/xml")
            case "DELETE", True:
                self.parts.pop(request.query.get("uploadId", ""), None) if "uploadId" in request.query else self.objects.pop(key, None)
                return web.Response(status=204)
        return web.Response(status=405)

    def _get(self, key: str) -> web.Response:
        if key not in self.objects:
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        data, changed_at = self.objects[key]
        headers = {"ETag": _etag(data), "Content-Length": str(len(data)), "Last-Modified": changed_at.strftime("%a, %d %b %Y %H:%M:%S GMT")}
        return web.Response(body=data, headers=headers)

    def _put(self, request: web.Request, key: str, body: bytes) -> web.Response:
        if "partNumber" in request.query:
            self.parts[request.query["uploadId"]][int(request.query["partNumber"])] = body
        else:
            self.objects[key] = (body, datetime.now(UTC))
        return web.Response(headers={"ETag": _etag(body)})

    def _post(self, request: web.Request, key: str) -> web.Response:
        if "uploads" in request.query:
            upload = f"upload-{len(self.parts)}"
            self.parts[upload] = {}
            text = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            return web.Response(text=text, content_type="application/xml")
        parts = self.parts.pop(request.query["uploadId"])
        data = b"".join(parts[number] for number in sorted(parts))
        self.objects[key] = (data, datetime.now(UTC))
        text = f"<CompleteMultipartUploadResult><ETag>{_etag(data)}</ETag></CompleteMultipartUploadResult>"
        return web.Response(text=text, content_type="application/xml")

    def _list(self, request: web.Request) -> web.Response:
        after = request.query.get("continuation-token", "")
        keys = sorted(key for key in self.objects if key.startswith(request.query.get("prefix", "")) and key > after)
        page = keys[:LIST_PAGE]
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{self.objects[key][1].isoformat()}</LastModified>"
            f"<ETag>{_etag(self.objects[key][0])}</ETag><Size>{len(self.objects[key][0])}</Size></Contents>"
            for key in page
        )
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if len(keys) > LIST_PAGE else ""
        text = f"<ListBucketResult>{rows}{more}<IsTruncated>{str(bool(more)).lower()}</IsTruncated></ListBucketResult>"
        return web.Response(text=text, content_type="application/xml")


def _etag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()[:32]}"'


def _signature_problem(request: web.Request, body: bytes) -> str:
    """Return why the signature of a request is wrong; "" when it is right."""
    query = dict(parse_qsl(request.query_string, keep_blank_values=True))
    presigned = query.pop("X-Amz-Signature", None)
    if presigned:
        signed, given, stamp = query["X-Amz-SignedHeaders"].split(";"), presigned, query["X-Amz-Date"]
        began = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if (datetime.now(UTC) - began).total_seconds() > int(query["X-Amz-Expires"]):
            return "expired"
    else:
        fields = dict(
            part.strip().split("=", 1) for part in request.headers.get("Authorization", "a=").partition(" ")[2].split(",") if part
        )
        if "Signature" not in fields:
            return "unsigned"
        signed, given, stamp = fields["SignedHeaders"].split(";"), fields["Signature"], request.headers["X-Amz-Date"]
        claimed = request.headers["X-Amz-Content-Sha256"]
        if claimed != "UNSIGNED-PAYLOAD" and claimed != hashlib.sha256(body).hexdigest():
            return "content"
    text = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))
    again = AWSRequest(method=request.method, url=f"http://{request.host}{request.raw_path.partition('?')[0]}?{text}")
    for name in signed:
        again.headers[name] = request.headers[name]
    again.headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD" if presigned else request.headers["X-Amz-Content-Sha256"]
    again.context["timestamp"] = stamp
    auth = S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION)
    auth.headers_to_sign = lambda _request: _only(again, signed)  # type: ignore[method-assign]
    wanted = auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again)
    return "" if wanted == given else "signature"


def _only(request: AWSRequest, names: list[str]) -> "object":
    from botocore.compat import HTTPHeaders

    chosen = HTTPHeaders()
    for name in names:
        chosen[name] = request.headers[name]
    return chosen


@asynccontextmanager
async def open_s3() -> AsyncIterator[tuple[PaperS3, str]]:
    """Serve the bucket ``bucket``; yield it and its endpoint."""
    paper = PaperS3()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{key:.*}", paper.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield paper, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
