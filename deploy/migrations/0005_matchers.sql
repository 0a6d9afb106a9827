-- Matcher processes that live. Owned by matcher/presence.py: each tells once a second, and as soon as it has a new generation of the
-- gallery, so that an enrolment or erasure knows when everyone searches with it.
create table matcher_replica (
    replica_id    uuid primary key,             -- random, of one process
    name          text not null,                -- what the operator calls it; host-pid by default
    host          text not null,
    pid           integer not null,
    shard         integer not null,
    shards_total  integer not null check (shards_total between 1 and 1024),
    generation    bigint not null,              -- of the gallery that it searches; -1 = not loaded yet
    "references"  bigint not null,              -- in memory, over all collections and models
    ready         boolean not null,             -- takes probes
    seen_at       timestamptz not null,         -- by the database's clock
    check (shard between 0 and shards_total - 1)
);
create index matcher_replica_seen on matcher_replica (seen_at);
