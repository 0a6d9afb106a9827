-- Who is enrolled. Owned by enrollment/; matcher/ reads it to fill its memory.
create table collection (
    name        text primary key check (name ~ '^[A-Za-z0-9._-]{1,64}$'),
    created_at  timestamptz not null default now()
);
insert into collection (name) values ('default');

create table subject (
    subject_id  uuid primary key default gen_random_uuid(),
    collection  text not null references collection (name),
    name        text not null check (length(name) between 1 and 200),
    attributes  jsonb not null default '{}',
    consent     jsonb,                  -- purpose, basis, given_by, given_at: what the enroller recorded
    expires_at  timestamptz,            -- after this instant the subject is no longer matched
    created_at  timestamptz not null default now(),
    unique (collection, name)
);
create index subject_expiry on subject (expires_at) where expires_at is not null;

create table reference (
    reference_id    uuid primary key,   -- uuid5 of (subject_id, content hash, face index): enrolling twice is one reference
    subject_id      uuid not null references subject (subject_id) on delete cascade,
    content_sha256  bytea not null,     -- of the photo file as received
    source          text not null,      -- file name as given by the enroller
    face_jpeg       bytea not null,     -- the face with its surroundings, no metadata: lets a new model embed it again
    landmarks       real[] not null check (cardinality(landmarks) = 10),  -- x, y of five points, pixels of face_jpeg
    quality         real not null,
    quality_reasons text[] not null default '{}',
    created_at      timestamptz not null default now()
);
create index reference_subject on reference (subject_id, created_at);
create index reference_content on reference (content_sha256);

create table reference_embedding (
    reference_id  uuid not null references reference (reference_id) on delete cascade,
    model         text not null,
    embedding     bytea not null,       -- float32 little-endian, L2 norm 1
    primary key (reference_id, model)
);

-- One row. Locked by every change of the gallery, so that generations have no gaps and follow commit order.
create table gallery_generation (
    only_row    boolean primary key default true check (only_row),
    generation  bigint not null
);
insert into gallery_generation (generation) values (0);

create table gallery_change (
    generation    bigint primary key,
    action        text not null check (action in ('put', 'delete')),
    collection    text not null,
    subject_id    uuid not null,
    reference_id  uuid not null,
    changed_at    timestamptz not null default now()
);

-- Receipts of erasures: that something was erased, when, and how much; nothing of whom.
create table erasure (
    receipt_id  uuid primary key default gen_random_uuid(),
    erased_at   timestamptz not null default now(),
    "references" integer not null,
    embeddings  integer not null,
    sightings   integer not null,
    generation  bigint not null         -- the gallery without them
);
