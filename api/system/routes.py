"""Routes of this area."""

from api.route import Media, Route
from api.system import handlers, models, pages

ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/healthz",
        handler=handlers.get_healthz,
        tag="health",
        needs=None,
        summary="Is the process alive?",
        answers={200: models.Alive},
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=handlers.get_readyz,
        tag="health",
        needs=None,
        summary="Can requests be served now? If not, why?",
        answers={200: models.Ready, 503: models.Ready},
    ),
    Route(
        method="GET",
        path="/metrics",
        handler=handlers.get_metrics,
        tag="health",
        needs="metrics.read",
        summary="Metrics for Prometheus",
        answers={200: Media("text/plain", "Prometheus exposition format.")},
    ),
    *(
        Route(method="GET", path=path, handler=handler, tag="pages", needs=None, summary=summary, answers={200: Media(kind, summary)})
        for path, handler, summary, kind in (
            ("/", pages.get_console, "The live page", "text/html"),
            ("/docs", pages.get_docs, "This document for people", "text/html"),
            ("/openapi.json", pages.get_openapi, "This document", "application/json"),
            ("/console/console.js", pages.get_console_script, "The live page's script", "text/javascript"),
            ("/console/client.js", pages.get_client_script, "How pages talk to the API", "text/javascript"),
            ("/console/docs.js", pages.get_docs_script, "The document page's script", "text/javascript"),
            ("/console/console.css", pages.get_style, "The pages' style", "text/css"),
            ("/console/icon.svg", pages.get_icon, "The pages' icon", "image/svg+xml"),
        )
    ),
)
