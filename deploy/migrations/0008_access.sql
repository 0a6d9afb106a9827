-- Who may do what: API keys, users of the console, their sessions. Owned by api/access/.

create table api_key (
    key_id             uuid primary key default gen_random_uuid(),
    public_id          text not null unique check (public_id ~ '^[A-Za-z0-9]{12}$'),  -- the part of the key that may be shown
    name               text not null check (length(name) between 1 and 200),
    role               text not null,
    scopes             text[],              -- permissions; null: all of the role
    collections        text[],              -- grants; null: all there are and will be
    watchlists         text[],
    camera_groups      text[],
    secret_sha256      bytea not null check (length(secret_sha256) = 32),
    old_secret_sha256  bytea check (length(old_secret_sha256) = 32),  -- of the last rotation, good until old_until
    old_until          timestamptz,
    rate_per_minute    integer check (rate_per_minute > 0),  -- null: api.rate_per_minute
    requests_per_day   bigint check (requests_per_day > 0),  -- null: any number
    expires_at         timestamptz,
    revoked_at         timestamptz,
    created_at         timestamptz not null default now(),
    created_by         text not null,       -- actor, as the audit names it
    last_used_at       timestamptz,         -- exact to a minute
    version            bigint not null default 1
);
create index api_key_age on api_key (created_at desc, key_id desc);

-- Requests of a key on a day (UTC), for quotas; written in batches.
create table api_key_day (
    key_id    uuid not null references api_key (key_id) on delete cascade,
    day       date not null,
    requests  bigint not null,
    primary key (key_id, day)
);
create index api_key_day_age on api_key_day (day);

create table api_user (
    user_id        uuid primary key default gen_random_uuid(),
    name           text not null check (name ~ '^[A-Za-z0-9._@-]{1,64}$'),
    password       text not null,           -- Argon2id, in its own encoding
    role           text not null,
    collections    text[],
    watchlists     text[],
    camera_groups  text[],
    disabled       boolean not null default false,
    created_at     timestamptz not null default now(),
    created_by     text not null,
    last_login_at  timestamptz,
    version        bigint not null default 1
);
create unique index api_user_name on api_user (lower(name));

-- A browser that has proven who uses it. Gone with its user, and of no use when its key or the settings' token is no longer good.
create table api_session (
    session_sha256  bytea primary key check (length(session_sha256) = 32),
    user_id         uuid references api_user (user_id) on delete cascade,
    key_id          uuid references api_key (key_id) on delete cascade,
    token_sha256    bytea,                  -- of the settings' token
    began_at        timestamptz not null default now(),
    used_at         timestamptz not null default now(),   -- exact to a minute
    ends_at         timestamptz not null,
    check (num_nonnulls(user_id, key_id, token_sha256) = 1)
);
create index api_session_user on api_session (user_id) where user_id is not null;
create index api_session_end on api_session (ends_at);
