-- Requests that may be sent twice, and groups of cameras. Owned by api/ and ingest/.

-- What a POST with an Idempotency-Key was answered, so that sending it again does nothing again.
create table idempotent_request (
    actor        text not null,             -- who asked: keys of different clients never meet
    key          text not null,             -- as the client chose it
    fingerprint  bytea not null,            -- SHA-256 of method, path, query and content: another request under the same key is refused
    status       integer,                   -- null: still being answered
    headers      jsonb,
    body         bytea,                     -- encrypted with the deployment's key
    began_at     timestamptz not null default now(),
    primary key (actor, key)
);
create index idempotent_request_age on idempotent_request (began_at);

-- Whom a camera concerns: grants, watchlists and thresholds name groups.
alter table camera add column groups text[] not null default '{}';
alter table camera add column version bigint not null default 1;    -- grows with each change: the API's ETag
