-- What a watchlist asks for, what becomes of an alert, cases, and cameras that came over the API. Owned by sightings/ and ingest/.

alter table watchlist
    add column description     text not null default '',
    add column alert_on        text not null default 'match' check (alert_on in ('match', 'stranger')),
    add column colour          text not null default '#d32f2f' check (colour ~ '^#[0-9a-f]{6}$'),
    add column sound           text not null default 'none' check (sound in ('none', 'chime', 'alarm', 'siren')),
    add column acknowledgement boolean not null default true,   -- an alert is not closed before somebody has acknowledged it
    add column camera_groups   text[] not null default '{}',    -- only at cameras of one of these groups; none = at all cameras
    add column time_zone       text not null default 'UTC',     -- of the active hours
    add column active_hours    jsonb not null default '[]',     -- weekly intervals; none = always
    add column version         bigint not null default 1;

alter table alert
    add column kind            text not null default 'match' check (kind in ('match', 'stranger')),
    add column collection      text,                            -- of its watchlist
    add column acknowledgement boolean not null default true,   -- as its watchlist said when it was raised
    add column acknowledged_by text,
    add column acknowledged_at timestamptz,
    add column assigned_to     text,
    add column version         bigint not null default 1,       -- grows with what people do to it, not with what its episode does
    add constraint alert_state check (state in ('new', 'acknowledged', 'confirmed', 'rejected', 'closed'));
update alert a set collection = w.collection from watchlist w where w.watchlist_id = a.watchlist_id;
create index alert_state_time on alert (state, raised_at desc, alert_id desc);

-- Which sightings an alert about a stranger covers: what is here rings no second time.
create table alert_sighting (
    alert_id     uuid not null references alert (alert_id) on delete cascade,
    sighting_id  uuid not null references sighting (sighting_id) on delete cascade,
    primary key (alert_id, sighting_id)
);
create index alert_sighting_sighting on alert_sighting (sighting_id);

-- Who did what to an alert, and what was said. Only ever added to.
create table alert_history (
    history_id  bigint generated always as identity primary key,
    alert_id    uuid not null references alert (alert_id) on delete cascade,
    at          timestamptz not null default now(),
    actor       text not null,
    name        text not null,          -- of the actor, for people
    action      text not null,
    before      text not null,          -- states
    after       text not null,
    assigned_to text,
    comment     bytea                   -- sealed; null also once the person was erased
);
create index alert_history_alert on alert_history (alert_id, history_id);

create table case_file (
    case_id      uuid primary key default gen_random_uuid(),
    collection   text not null references collection (name),   -- whose sightings it holds: who may see that, may see the case
    title        text not null,
    description  text not null default '',
    state        text not null default 'open' check (state in ('open', 'closed')),
    owner        text,
    legal_hold   boolean not null default false,    -- its sightings are kept, whatever retention says
    created_at   timestamptz not null default now(),
    created_by   text not null,
    updated_at   timestamptz not null default now(),
    version      bigint not null default 1
);
create index case_file_time on case_file (created_at desc, case_id desc);

-- No foreign key to the sighting: without a hold retention erases it, and what stays here says only when and where it was.
create table case_sighting (
    case_id      uuid not null references case_file (case_id) on delete cascade,
    sighting_id  uuid not null,
    camera       text not null,
    first_at     timestamptz not null,
    note         bytea,                             -- sealed
    added_at     timestamptz not null default now(),
    added_by     text not null,
    primary key (case_id, sighting_id)
);
create index case_sighting_sighting on case_sighting (sighting_id);

create table case_note (
    note_id   uuid primary key default gen_random_uuid(),
    case_id   uuid not null references case_file (case_id) on delete cascade,
    at        timestamptz not null default now(),
    author    text not null,
    text      bytea not null                        -- sealed
);
create index case_note_case on case_note (case_id, at, note_id);

-- Whether a sighting must be kept: for all that erases by age.
create function sighting_is_held(id uuid) returns boolean language sql stable as $$
    select exists (select from case_sighting s join case_file c using (case_id) where s.sighting_id = id and c.legal_hold)
$$;

-- A camera that a client of the API named is only ever connected to where the settings 'outbound' allow it.
alter table camera add column over_api boolean not null default false;
