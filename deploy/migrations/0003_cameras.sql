-- Which cameras there are. Owned by ingest/.
create table camera (
    name           text primary key check (name ~ '^[A-Za-z0-9._-]{1,64}$'),
    url_encrypted  bytea not null,      -- the URL with its credentials, encrypted with the deployment's key
    url_redacted   text not null,       -- what people and logs see
    region         text not null default 'default',
    enabled        boolean not null default true,
    gate           jsonb not null default '{}',  -- overrides of IngestSettings, zones and masks
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now()
);
