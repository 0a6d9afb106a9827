-- What was seen. Owned by sightings/.
create table episode (
    episode_id  uuid primary key,
    camera      text not null,
    collection  text not null,
    subject_id  uuid,
    subject     text not null,
    first_at    timestamptz not null,
    last_at     timestamptz not null
);
create index episode_camera_subject on episode (camera, subject_id, last_at desc);
create index episode_time on episode (last_at desc);

create table sighting (
    sighting_id   uuid primary key,
    track_id      text not null,
    camera        text not null,
    region        text not null,
    revision      integer not null,
    closed        boolean not null,
    outcome       text not null check (outcome in ('subject', 'stranger', 'unclear')),
    reason        text not null,
    collection    text not null,
    subject_id    uuid,                 -- no foreign key: an erased subject's sightings lose the name by update
    subject       text,
    reference_id  uuid,
    score         real,
    threshold     real not null,
    model         text not null,
    quality       real not null,
    faces         integer not null,
    first_at      timestamptz not null,
    last_at       timestamptz not null,
    best_at       timestamptz not null,
    best_box      real[] not null,
    path          jsonb not null,
    times         jsonb not null,
    embedding     bytea,
    thumbnail     bytea,
    shards_missing integer not null default 0,
    episode_id    uuid references episode (episode_id) on delete set null,
    stored_at     timestamptz not null default now()
);
create index sighting_camera_time on sighting (camera, last_at desc);
create index sighting_subject_time on sighting (subject_id, last_at desc) where subject_id is not null;
create index sighting_time on sighting (last_at desc);
