-- Collections, subjects with validity and consent, photos that wait for a person's look, and merges that can be undone.
-- Owned by enrollment/.

alter table collection add column description text not null default '';
alter table collection add column attributes jsonb not null default '{}';
alter table collection add column version bigint not null default 1;    -- grows with each change: the API's ETag

-- Times in consent are written with their offset, so that reading them depends on no setting of the session.
create function consent_time(consent jsonb, field text) returns timestamptz
language sql immutable parallel safe return (consent ->> field)::timestamptz;

alter table subject add column external_id text;
alter table subject add column notes text;
alter table subject add column valid_from timestamptz;      -- before this instant the subject is not matched
alter table subject add column version bigint not null default 1;
-- The instant from which the subject is not matched: its validity, its consent's expiry and its withdrawal, whichever is first.
alter table subject add column ends_at timestamptz generated always as
    (least(expires_at, consent_time(consent, 'expires_at'), consent_time(consent, 'withdrawn_at'))) stored;
drop index subject_expiry;
create index subject_ends on subject (ends_at) where ends_at is not null;
create unique index subject_external on subject (collection, external_id) where external_id is not null;
create index subject_attributes on subject using gin (attributes jsonb_path_ops);

-- Photos that could not be enrolled without doubt, until somebody accepts or discards them.
create table set_aside (
    set_aside_id    uuid primary key default gen_random_uuid(),
    collection      text not null references collection (name) on delete cascade,
    subject_id      uuid not null references subject (subject_id) on delete cascade,    -- who it was sent for
    source          text not null,      -- file name as given by the enroller
    content_sha256  bytea not null,     -- of the photo file as received
    picture         bytea not null,     -- sealed: the photo, shrunk to what the models look at, no metadata
    width_px        integer not null,   -- of the picture
    height_px       integer not null,
    faces           jsonb not null,     -- boxes in pixels of the picture, quality
    face_index      integer,            -- the face it is about; null: somebody must choose
    reason          text not null,
    detail          text not null,
    candidates      jsonb not null,     -- who it looks like: ids and scores
    created_at      timestamptz not null default now(),
    unique (subject_id, content_sha256, reason)     -- sending a photo again sets it aside once
);
create index set_aside_page on set_aside (created_at desc, set_aside_id desc);
create index set_aside_candidates on set_aside using gin (candidates jsonb_path_ops);

-- Two subjects that were one person: what moved to the survivor, so that it can go back.
create table subject_merge (
    merge_id     uuid primary key default gen_random_uuid(),
    collection   text not null,
    survivor_id  uuid not null,
    merged_id    uuid not null,         -- not among the subjects any more; what still names it is the survivor's
    survivor     bytea not null,        -- sealed: what the merge changed of the survivor, as it was
    merged       bytea not null,        -- sealed: the merged subject's row
    actor        text not null,
    merged_at    timestamptz not null default now(),
    undone_at    timestamptz
);
create unique index subject_merge_active on subject_merge (merged_id) where undone_at is null;
create index subject_merge_survivor on subject_merge (survivor_id);
create table subject_merge_part (
    merge_id  uuid not null references subject_merge (merge_id) on delete cascade,
    kind      text not null,            -- reference, sighting, alert, watchlist, kept_watchlist (the survivor was on it too), ...
    part_id   uuid not null,
    primary key (merge_id, kind, part_id)
);
create index subject_merge_part_part on subject_merge_part (part_id);

-- Sightings that a person has named: what the cameras' own recognition says of them later does not take the name away.
create table sighting_naming (
    sighting_id   uuid primary key references sighting (sighting_id) on delete cascade,
    subject_id    uuid not null references subject (subject_id) on delete cascade,
    reference_id  uuid,
    named_at      timestamptz not null default now()
);
create index sighting_naming_subject on sighting_naming (subject_id);
