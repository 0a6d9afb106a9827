-- What happened, for live streams, webhooks and MQTT. Written by whoever makes it true (core/events.py); ids follow the order of commits.
create table event (
    event_id    bigint generated always as identity primary key,
    at          timestamptz not null default now(),
    kind        text not null,
    key         text not null,          -- id of the row it is about; nothing of a person is in here
    revision    bigint not null,
    camera      text,
    collection  text,
    watchlist   text
);
create index event_at on event (at);
