"""All routes. Routing, permissions, audit and the OpenAPI document are made from this table, so nothing is served that is not described."""

from api.access.routes import ROUTES as ACCESS
from api.alerts.routes import ROUTES as ALERTS
from api.audit.routes import ROUTES as AUDIT
from api.cameras.routes import ROUTES as CAMERAS
from api.cases.routes import ROUTES as CASES
from api.compat.routes import ROUTES as COMPAT
from api.feedback.routes import ROUTES as FEEDBACK
from api.gallery.routes import ROUTES as GALLERY
from api.history.routes import ROUTES as HISTORY
from api.jobs.routes import ROUTES as JOBS
from api.live.routes import ROUTES as LIVE
from api.opt_outs.routes import ROUTES as OPT_OUTS
from api.privacy.routes import ROUTES as PRIVACY
from api.recognize.routes import ROUTES as RECOGNIZE
from api.route import Route
from api.search.routes import ROUTES as SEARCH
from api.sightings.routes import ROUTES as SIGHTINGS
from api.storage.routes import ROUTES as STORAGE
from api.system.routes import ROUTES as SYSTEM
from api.thresholds.routes import ROUTES as THRESHOLDS
from api.watchlists.routes import ROUTES as WATCHLISTS
from api.webhooks.routes import ROUTES as WEBHOOKS

ROUTES: tuple[Route, ...] = (
    *SYSTEM,
    *ACCESS,
    *GALLERY,
    *SEARCH,
    *HISTORY,
    *RECOGNIZE,
    *SIGHTINGS,
    *CAMERAS,
    *STORAGE,
    *JOBS,
    *LIVE,
    *AUDIT,
    *WATCHLISTS,
    *ALERTS,
    *CASES,
    *THRESHOLDS,
    *COMPAT,
    *PRIVACY,
    *FEEDBACK,
    *OPT_OUTS,
    *WEBHOOKS,
)
