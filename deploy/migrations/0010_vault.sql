-- Which keys have sealed pictures and embeddings (core/vault.py): ids alone, of no use for finding the keys. Owned by core/.
create table vault_key (
    key_id         bytea primary key check (octet_length(key_id) = 4),
    first_used_at  timestamptz not null default now()
);
