"""Routes of this area."""

from api.jobs import handlers, models
from api.route import Media, Route

REPORT_S = 600.0

ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/jobs/import",
        handler=handlers.create_import,
        tag="jobs",
        needs="jobs.write",
        audit="job.import",
        summary="Enrol many people",
        description=(
            "Photos as `sightline enroll` takes them, or embeddings that another system has computed. Each row is judged like a single "
            "photo. Goes on after a crash where it was, without duplicates. Needs subjects.write too."
        ),
        body=models.NewImport,
        answers={202: models.JobView},
        errors=(404, 422),
    ),
    Route(
        method="POST",
        path="/v1/jobs/recognize",
        handler=handlers.create_recognition,
        tag="jobs",
        needs="jobs.write",
        audit="job.recognize",
        summary="Say who is on many pictures and in whole videos",
        description="Results come item by item while the job runs, and at the end as JSON lines in object storage. Needs recognize too.",
        body=models.NewRecognition,
        answers={202: models.JobView},
        errors=(404, 422),
    ),
    Route(
        method="GET",
        path="/v1/jobs",
        handler=handlers.list_jobs,
        tag="jobs",
        needs="jobs.read",
        summary="List jobs, newest first",
        query=models.JobQuery,
        answers={200: models.JobPage},
    ),
    Route(
        method="GET",
        path="/v1/jobs/{job_id}",
        handler=handlers.get_job,
        tag="jobs",
        needs="jobs.read",
        summary="Show a job and how far it is",
        answers={200: models.JobView},
    ),
    Route(
        method="GET",
        path="/v1/jobs/{job_id}/items",
        handler=handlers.list_job_items,
        tag="jobs",
        needs="jobs.read",
        audit="job.items",
        summary="What became of each item so far",
        query=models.ItemQuery,
        answers={200: models.ItemPage},
        errors=(422,),
    ),
    *(
        Route(
            method="GET",
            path=f"/v1/jobs/{{job_id}}/report.{suffix}",
            handler=handler,
            tag="jobs",
            needs="jobs.read",
            audit="job.report",
            summary=f"What became of each item, as {words}",
            limit_s=REPORT_S,
            answers={200: Media(kind, f"A line for each item, as {words}.")},
        )
        for suffix, handler, kind, words in (
            ("csv", handlers.get_report_csv, "text/csv", "a table"),
            ("jsonl", handlers.get_report_jsonl, "application/jsonl", "lines of JSON"),
        )
    ),
    Route(
        method="POST",
        path="/v1/jobs/{job_id}/cancel",
        handler=handlers.cancel_job,
        tag="jobs",
        needs="jobs.write",
        audit="job.cancel",
        summary="Stop a job",
        description="200: it has ended. 202: it ends after the items that are being looked at. What is done stays.",
        answers={200: models.JobView, 202: models.JobView},
        errors=(409,),
    ),
    Route(
        method="POST",
        path="/v1/jobs/{job_id}/retry",
        handler=handlers.retry_job,
        tag="jobs",
        needs="jobs.write",
        audit="job.retry",
        summary="Do again what was rejected or set apart, and what a cancelled job left",
        body=models.RetryRequest,
        answers={202: models.JobView},
        errors=(409,),
    ),
)
