-- Watchlists and alerts, and open sightings whose recognizer has died. Owned by sightings/.

-- Revisions grow with the milliseconds that a track lasts: a poster before a camera needs more than 32 bits within a week.
alter table sighting alter column revision type bigint;
-- When the last revision arrived, by this database's clock: an open sighting that is not heard of any more is closed.
alter table sighting add column revised_at timestamptz not null default now();
create index sighting_open on sighting (revised_at) where not closed;

create table watchlist (
    watchlist_id  uuid primary key default gen_random_uuid(),
    name          text not null unique check (name ~ '^[A-Za-z0-9._-]{1,64}$'),
    collection    text not null references collection (name),  -- whose subjects it lists
    enabled       boolean not null default true,
    created_at    timestamptz not null default now()
);

create table watchlist_subject (
    watchlist_id  uuid not null references watchlist (watchlist_id) on delete cascade,
    subject_id    uuid not null references subject (subject_id) on delete cascade,
    added_at      timestamptz not null default now(),
    primary key (watchlist_id, subject_id)
);
create index watchlist_subject_subject on watchlist_subject (subject_id);

-- One for each watchlist and episode: a listed subject was seen. What it covers (camera, subject, first_at .. last_at) follows its
-- episode as that grows and never shrinks; whatever overlaps is told already. Two alerts whose episodes turn out to be one stay two.
create table alert (
    alert_id      uuid primary key,     -- uuid5 of watchlist and episode as it was raised
    watchlist_id  uuid not null,        -- no foreign key: a watchlist may be removed while a sighting is stored; its alerts stay
    watchlist     text not null,
    camera        text not null,
    subject_id    uuid,                 -- null once the subject was erased, as what follows
    subject       text,
    sighting_id   uuid,                 -- shows it: the best one when it was raised
    score         double precision,
    episode_id    uuid references episode (episode_id) on delete set null,  -- null: the identification was taken back, or is too old
    first_at      timestamptz not null,
    last_at       timestamptz not null,
    state         text not null default 'new',
    raised_at     timestamptz not null default now()
);
create index alert_cover on alert (camera, subject_id, last_at);
create index alert_time on alert (raised_at desc, alert_id desc);
create index alert_subject on alert (subject_id) where subject_id is not null;
create index alert_episode on alert (episode_id) where episode_id is not null;
