-- What happened, for live streams, webhooks and MQTT. Written by whoever makes it true (core/events.py); ids follow the order of commits.
create table event (
    event_id    bigint generated always as identity primary key,
    at          timestamptz not null default clock_timestamp(),
    kind        text not null,
    key         text not null,          -- id of the row it is about; nothing of a person is in here
    revision    bigint not null,
    camera      text,
    collection  text,
    watchlist   text,
    news        boolean not null default true   -- false: nothing but newer figures of a row that is known
);
create index event_at on event (at);

-- What a transaction tells becomes events when it commits, whenever it told it: the lock under which ids are drawn is the last one that
-- any transaction takes, so nobody waits for another lock while others wait for this one.
create unlogged table event_intent (
    intent_id   bigint generated always as identity primary key,
    kind        text not null,
    key         text not null,
    revision    bigint not null,
    camera      text,
    collection  text,
    watchlist   text,
    news        boolean not null
);
create function tell_event() returns trigger language plpgsql as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('sightline/event', 0));
    insert into event (kind, key, revision, camera, collection, watchlist, news)
    values (new.kind, new.key, new.revision, new.camera, new.collection, new.watchlist, new.news);
    delete from event_intent where intent_id = new.intent_id;
    perform pg_notify('event', '');
    return null;
end $$;
create constraint trigger event_told after insert on event_intent deferrable initially deferred
for each row execute function tell_event();

-- The newest event that is not kept any more: whoever resumes from before it has missed some.
create table event_floor (
    single    boolean primary key default true check (single),
    event_id  bigint not null
);

-- Readers of which one works at a time (MQTT): how far everything is done, and who has the lease.
create table event_reader (
    name        text primary key,
    event_id    bigint not null,
    holder      uuid,
    held_until  timestamptz not null default now()
);

-- Webhooks and their deliveries. Owned by api/webhooks/.
create table webhook (
    webhook_id    uuid primary key default gen_random_uuid(),
    url           bytea not null,                   -- sealed, for it may hold a token
    secret        bytea not null,                   -- sealed; signs what is sent
    description   text not null default '',
    kinds         text[] not null,
    cameras       text[] not null default '{}',     -- each of these lists: empty = all
    camera_groups text[] not null default '{}',
    watchlists    text[] not null default '{}',
    collections   text[] not null default '{}',
    every_revision boolean not null default false,  -- also what is no news: a face that is still there
    granted       jsonb not null,                   -- what its maker may see: it never delivers more
    enabled       boolean not null default true,
    failures      integer not null default 0,       -- in a row
    paused_until  timestamptz,                      -- after too many of them
    last_error    text,
    delivered_at  timestamptz,                      -- the last time that it took something
    version       bigint not null default 1,
    created_at    timestamptz not null default now()
);

create table webhook_delivery (
    delivery_id  uuid primary key default gen_random_uuid(),
    webhook_id   uuid not null references webhook (webhook_id) on delete cascade,
    event_id     bigint,                            -- null: a test
    at           timestamptz not null,              -- of the event
    kind         text not null,
    key          text not null,
    revision     bigint not null,
    camera       text,
    collection   text,
    watchlist    text,
    state        text not null default 'waiting' check (state in ('waiting', 'delivered', 'dead', 'skipped')),
    attempts     integer not null default 0,        -- since it was queued
    queued_at    timestamptz not null default now(),    -- first, or again by a replay: retries end a day after it
    due_at       timestamptz not null default now(),    -- while waiting; in the future while somebody tries it
    finished_at  timestamptz,
    status       integer,                           -- of the last response
    error        text,                              -- of the last attempt
    unique (webhook_id, event_id)
);
create index webhook_delivery_due on webhook_delivery (webhook_id, due_at) where state = 'waiting';
create index webhook_delivery_list on webhook_delivery (webhook_id, at desc, delivery_id desc);
create index webhook_delivery_finished on webhook_delivery (finished_at) where state <> 'waiting';

-- What MQTT brokers keep because we asked them to, so that it can be taken back. Owned by sightings/notify/.
create table mqtt_retained (
    topic        text primary key,
    camera       text,          -- goes with it; null: the platform's own
    sighting_id  uuid,          -- goes when that sighting is gone, or no longer of this subject
    subject_id   uuid
);
create index mqtt_retained_camera on mqtt_retained (camera);
