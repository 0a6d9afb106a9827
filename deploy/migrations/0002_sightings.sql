-- What was seen. Owned by sightings/.

-- Sightings of one subject at one camera without a gap longer than settings.sightings.episode_gap_s.
-- Every column is a function of the episode's sightings, so that any order of arrival makes the same rows.
create table episode (
    episode_id         uuid primary key,    -- uuid5 of camera, subject and the earliest sighting
    camera             text not null,
    subject_id         uuid not null,
    first_at           timestamptz not null,
    first_sighting_id  uuid not null,       -- the earliest
    last_at            timestamptz not null,
    sightings          integer not null check (sightings > 0),
    best_quality       double precision not null,
    best_sighting_id   uuid not null        -- the one of best quality: its thumbnail shows the episode
);
create index episode_camera_subject on episode (camera, subject_id, last_at desc);
create index episode_time on episode (first_at desc, episode_id desc);
create index episode_subject_time on episode (subject_id, first_at desc, episode_id desc);

create table sighting (
    sighting_id   uuid primary key,
    track_id      text not null,
    camera        text not null,
    region        text not null,
    revision      integer not null,         -- the highest that arrived
    closed        boolean not null,
    outcome       text not null check (outcome in ('subject', 'stranger', 'unclear')),
    reason        text not null,
    collection    text not null,
    subject_id    uuid,                     -- no foreign key: an erased subject's sightings lose the name by update
    subject       text,
    reference_id  uuid,
    score         double precision,
    threshold     double precision not null,
    model         text not null,
    quality       double precision not null,
    faces         integer not null,
    first_at      timestamptz not null,
    last_at       timestamptz not null,
    best_at       timestamptz not null,
    best_box      double precision[] not null,
    path          jsonb not null,
    times         jsonb not null,
    embedding     bytea,                    -- float32 little-endian, L2 norm 1
    thumbnail     bytea,
    shards_missing integer not null default 0,
    episode_id    uuid references episode (episode_id) on delete set null,
    stored_at     timestamptz not null,     -- when its first revision arrived: retention counts from here, not from camera clocks
    check (outcome <> 'subject' or (subject_id is not null and subject is not null))
);
-- Pages run newest first by first_at, which no later revision moves.
create index sighting_time on sighting (first_at desc, sighting_id desc);
create index sighting_camera_time on sighting (camera, first_at desc, sighting_id desc);
create index sighting_subject_time on sighting (subject_id, first_at desc, sighting_id desc) where subject_id is not null;
create index sighting_outcome_time on sighting (outcome, first_at desc, sighting_id desc);
create index sighting_episode on sighting (episode_id) where episode_id is not null;
create index sighting_stored on sighting (stored_at);

-- Erased subjects, by their random id alone: a message that still names one (redelivered, or late) is stored without the name.
create table forgotten_subject (
    subject_id    uuid primary key,
    forgotten_at  timestamptz not null default now()
);
