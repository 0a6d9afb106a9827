-- Who did what, to whom, and why. Owned by core/audit/: append-only, each entry bound to the one before by a keyed hash, so that whoever can
-- write to this database, but has not the deployment's key, can neither change an entry unseen nor take one out.
create table audit (
    seq         bigint primary key check (seq > 0),     -- without gaps
    at          timestamptz not null,                   -- by this database's clock
    actor       text not null,          -- kind and id: key:<uuid>, user:<uuid>, oidc:<subject>, settings, cli:<os user>, anonymous
    actor_name  text not null,
    role        text not null,
    action      text not null,          -- such as subject.read
    targets     text[] not null,        -- ids that it was about
    purpose     text not null,          -- as the actor gave it; may be empty
    outcome     integer not null,       -- HTTP status; 0 = a command that succeeded, 1 = one that failed
    request_id  text not null,
    client      text not null,          -- address
    details     text not null,          -- JSON, as it was hashed: ids, counts, settings of a search; no names, pictures, embeddings
    key_id      bytea not null,         -- which key made the hash
    previous    bytea not null,         -- hash of the entry before
    hash        bytea not null          -- HMAC-SHA256 over all of the above
);
create index audit_at on audit (at);
create index audit_actor on audit (actor, seq);
create index audit_action on audit (action, seq);
create index audit_targets on audit using gin (targets);

-- One row: the newest entry. Locked by every writer, so that entries follow each other.
create table audit_head (
    only_row  boolean primary key default true check (only_row),
    seq       bigint not null,
    hash      bytea not null
);

-- One row: entries up to here were pruned (audit.retention_days). Signed: entries that go without it are found missing.
create table audit_checkpoint (
    only_row   boolean primary key default true check (only_row),
    seq        bigint not null,
    hash       bytea not null,      -- of the last pruned entry
    pruned_at  timestamptz not null,
    key_id     bytea not null,
    mac        bytea not null
);

-- Against mistakes; against malice there is the chain.
create function refuse_audit_change() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' and old.seq <= (select seq from audit_checkpoint) then
        return old;
    end if;
    raise exception 'audit: entries are never changed, and removed by retention only (audit.retention_days)'
        using errcode = 'insufficient_privilege';
end
$$;
create trigger audit_append_only before update or delete on audit for each row execute function refuse_audit_change();
create trigger audit_never_empty before truncate on audit for each statement execute function refuse_audit_change();

-- Erasure: a receipt says what was covered, and until when copies that are not kept by person are gone.
alter table erasure add column collection text not null default 'default';
alter table erasure add column covered jsonb not null default '{}';     -- {what: how many}
alter table erasure add column gone_by jsonb not null default '{}';     -- {what: time}
create index erasure_time on erasure (erased_at desc, receipt_id desc);
-- Erasing again gives the same receipt.
alter table forgotten_subject add column receipt_id uuid references erasure (receipt_id);

-- Retention takes pictures and embeddings from sightings that stay.
create index sighting_pictured on sighting (stored_at) where thumbnail is not null;
create index sighting_embedded on sighting (stored_at) where embedding is not null;
