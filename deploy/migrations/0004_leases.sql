-- Who runs which camera, in a fleet of ingesters. Owned by ingest/. All times are this server's: a lying clock on a host changes nothing.
create table ingester (
    id          text primary key check (id ~ '^[A-Za-z0-9._-]{1,64}$'),
    token       uuid not null,                 -- of the process that goes by this name now; an older one that finds another ends
    host        text not null,
    pid         integer not null,
    regions     text[] not null default '{}',  -- it runs these regions' cameras only; empty = all
    started_at  timestamptz not null default now(),
    seen_at     timestamptz not null default now()  -- renews all its leases at once: one small update per ingester, not one per camera
);

create table camera_lease (
    camera      text primary key references camera (name) on update cascade on delete cascade,
    ingester    text not null references ingester (id) on delete cascade,
    taken_at    timestamptz not null default now(),
    state       text not null default 'connecting',  -- as its ingester sees it: connecting, live, retrying, ended, stopped
    reason      text not null default '',
    changed_at  timestamptz not null default now()
);
create index camera_lease_ingester on camera_lease (ingester);
create index camera_region on camera (region);

-- Ingesters listen on the channel: what was added, changed, freed or given back is followed at once.
create function notify_cameras() returns trigger language plpgsql as $$
begin
    perform pg_notify('cameras', '');
    return null;
end
$$;
create trigger camera_changed after insert or update or delete on camera for each statement execute function notify_cameras();
create trigger camera_lease_freed after delete on camera_lease for each statement execute function notify_cameras();
