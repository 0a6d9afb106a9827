"""The locks under which sightings are written: writers of one camera take turns, and nobody writes while a subject is taken out."""

LOCK_CAMERAS = "select pg_advisory_xact_lock(hashtextextended('sightline/sightings/' || camera, 0)) from unnest($1::text[]) camera"
LOCK_FORGETTING_SHARED = "select pg_advisory_xact_lock_shared(hashtextextended('sightline/forgetting', 0))"
LOCK_TO_STORE = f"{LOCK_FORGETTING_SHARED} union all {LOCK_CAMERAS}"
LOCK_FORGETTING = "select pg_advisory_xact_lock(hashtextextended('sightline/forgetting', 0))"
