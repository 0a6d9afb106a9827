-- Uploads, and jobs that use them. Owned by api/storage/ and api/jobs/.

create table upload (
    upload_id   uuid primary key default gen_random_uuid(),
    created_by  text not null,              -- actor: nobody else may use it
    name        text not null,              -- as the client calls it: for reports only, never a path
    sha256      bytea,                      -- the client's, to compare with; once stored here, what came
    size_bytes  bigint,                     -- null until it is there
    created_at  timestamptz not null default now(),
    expires_at  timestamptz not null        -- until when it may be begun
);
create index upload_created on upload (created_at);

create table job (
    job_id           uuid primary key default gen_random_uuid(),
    kind             text not null check (kind in ('import', 'recognize')),
    state            text not null default 'queued'
                     check (state in ('queued', 'running', 'succeeded', 'partial', 'failed', 'cancelled')),
    collection       text not null,         -- granted to whoever made it; what the job may touch, for ever
    params           jsonb not null,
    uploads          uuid[] not null default '{}',
    created_by       text not null,
    callback         bytea,                 -- sealed: URL to tell at the end
    callback_due_at  timestamptz,           -- null = nothing to tell (any more)
    callback_tries   integer not null default 0,
    listed           boolean not null default false,    -- all items are there
    total            integer not null default 0,
    done             integer not null default 0,
    rejected         integer not null default 0,
    set_apart        integer not null default 0,
    reason           text not null default '',
    cancelling       boolean not null default false,
    runner           uuid,                  -- process that has it
    lease_until      timestamptz,
    due_at           timestamptz not null default now(),
    crashes          integer not null default 0,        -- leases that ended without a word, since something was last finished
    results_due      boolean not null default false,    -- the results in object storage are not those of the rows
    erase_uploads    boolean not null default false,
    created_at       timestamptz not null default now(),
    started_at       timestamptz,
    finished_at      timestamptz,
    version          bigint not null default 1
);
create index job_time on job (created_at desc, job_id desc);
create index job_open on job (due_at) where state in ('queued', 'running');

create table job_item (
    job_id       uuid not null references job (job_id) on delete cascade,
    seq          integer not null,
    state        text not null default 'waiting' check (state in ('waiting', 'done', 'rejected', 'set_apart')),
    input        jsonb not null,            -- what to look at: names, like those of subject
    subject      text,                      -- import: under whose name
    attempts     integer not null default 0,
    due_at       timestamptz not null default now(),
    reason       text not null default '',
    detail       text not null default '',
    result       bytea,                     -- sealed JSON
    subject_ids  uuid[] not null default '{}',          -- whom the result names
    finished_at  timestamptz,
    primary key (job_id, seq)
);
create index job_item_waiting on job_item (job_id, seq) where state = 'waiting';
create index job_item_subjects on job_item using gin (subject_ids) where subject_ids <> '{}';
