"""Erasure of a subject from jobs: names, ids and scores go from items and results, and uploads that showed them."""

import uuid
from typing import Final

import msgspec

from api.jobs.lease import LOCK_NAMES, stripped
from api.jobs.record import result_label
from core.ports import Database

_NAMED: Final = "select job_id, seq, result, subject_ids from job_item where subject_ids @> array[$1::uuid] and result is not null"
_STRIP: Final = """
update job_item set result = $3, subject_ids = array_remove(subject_ids, $4), detail = '' where job_id = $1 and seq = $2
"""
# Items of imports under the name: what they were is not needed any more, and what still waits is not done.
_BY_NAME: Final = """
update job_item i set input = '{}', subject = null, detail = '', result = null, subject_ids = '{}', reason = 'erased',
    state = case when i.state = 'waiting' then 'rejected' else i.state end,
    finished_at = coalesce(i.finished_at, now())
from job j, subject s
where s.subject_id = $1 and j.job_id = i.job_id and j.kind = 'import' and j.collection = s.collection
  and (i.subject = s.name or i.subject_ids @> array[$1::uuid])
returning i.job_id
"""
# Others were told that they look like this one.
_TOLD: Final = """
update job_item i set detail = '' from job j, subject s
where s.subject_id = $1 and j.job_id = i.job_id and j.collection = s.collection
  and i.reason in ('looks_like_another_subject', 'duplicate') and position(s.name in i.detail) > 0
"""
_JOBS: Final = """
update job j set results_due = results_due or (kind = 'recognize' and finished_at is not null),
    erase_uploads = true, version = version + 1,
    done = (select count(*) from job_item i where i.job_id = j.job_id and i.state = 'done'),
    rejected = (select count(*) from job_item i where i.job_id = j.job_id and i.state = 'rejected'),
    set_apart = (select count(*) from job_item i where i.job_id = j.job_id and i.state = 'set_apart')
where job_id = any($1::uuid[])
"""


async def forget_subject_in_jobs(tx: Database, subject_id: str) -> int:
    """Erase a subject from all jobs, inside the caller's transaction, before the subject itself goes; return how many items named it.

    The results in object storage follow within seconds, as soon as a runner keeps house; uploads of the jobs concerned are erased then too.
    """
    key = uuid.UUID(subject_id)
    await tx.fetch(LOCK_NAMES.format(shared=""))
    imports = await tx.fetch(_BY_NAME, key)
    named = await tx.fetch(_NAMED, key)
    for row in named:
        label = result_label(row["job_id"], row["seq"])
        result = stripped(msgspec.json.decode(tx.vault.open(row["result"], label=label)), {str(key)})
        await tx.execute(_STRIP, row["job_id"], row["seq"], tx.vault.seal(msgspec.json.encode(result), label=label), key)
    await tx.execute(_TOLD, key)
    jobs = {row["job_id"] for row in (*imports, *named)}
    if jobs:
        await tx.execute(_JOBS, list(jobs))
    return len(imports) + len(named)
