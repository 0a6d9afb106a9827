-- Unknown persons: strangers who come back. Owned by sightings/people_store.py.

create table person (
    person_id         uuid primary key,         -- uuid5 of its first sighting, or random where people split one
    first_at          timestamptz not null,
    last_at           timestamptz not null,
    sightings         integer not null,
    best_sighting_id  uuid not null,            -- its picture shows the person
    best_quality      double precision not null,
    label             bytea,                    -- sealed: what people call somebody whose name they do not know
    subject_id        uuid references subject (subject_id) on delete set null,     -- once named
    naming            jsonb,                    -- what naming did, so that it can be undone: references, whether it made the subject
    version           bigint not null default 1
);
create index person_newest on person (last_at desc, person_id desc);
create index person_most on person (sightings desc, person_id desc);
create index person_subject on person (subject_id) where subject_id is not null;

alter table sighting add column person_id uuid references person (person_id) on delete set null;
alter table sighting add column person_checked boolean not null default false;  -- whether it was asked whose it is
create index sighting_person on sighting (person_id, first_at desc, sighting_id desc) where person_id is not null;
create index sighting_unchecked on sighting (last_at, sighting_id) where not person_checked and closed and outcome = 'stranger';

-- Sightings by which a person is known again; their embeddings are the sightings' own.
create table person_exemplar (
    sighting_id  uuid primary key references sighting (sighting_id) on delete cascade,
    person_id    uuid not null references person (person_id) on delete cascade,
    quality      double precision not null
);
create index person_exemplar_person on person_exemplar (person_id);

-- Two that were one, so that it can be undone.
create table person_merge (
    merge_id     uuid primary key default gen_random_uuid(),
    survivor_id  uuid not null references person (person_id) on delete cascade,
    merged_id    uuid not null,
    sightings    uuid[] not null,       -- that moved
    exemplars    uuid[] not null,
    label        bytea,                 -- of the merged one, sealed under its id
    merged_at    timestamptz not null default clock_timestamp()
);
create index person_merge_survivor on person_merge (survivor_id, merged_at desc);

-- Makes persons what their sightings say; who has none left is gone.
create function refresh_persons(ids uuid[]) returns void language plpgsql as $$
begin
    perform from person where person_id = any(ids) order by person_id for update;
    update person p set first_at = s.first_at, last_at = s.last_at, sightings = s.n, best_sighting_id = s.best, best_quality = s.quality
    from (select person_id, min(first_at) as first_at, max(last_at) as last_at, count(*) as n, max(quality) as quality,
                 (array_agg(sighting_id order by thumbnail is null, quality desc, sighting_id))[1] as best
          from sighting where person_id = any(ids) group by person_id) s
    where p.person_id = s.person_id;
    delete from person p where person_id = any(ids) and not exists (select from sighting s where s.person_id = p.person_id);
end
$$;

-- A sighting that is erased, or turns out to be somebody else, leaves its person, whoever changes it.
create function leave_person() returns trigger language plpgsql as $$
begin
    if new.embedding is null
        or (new.subject_id is not null and not exists (select from person where person_id = old.person_id and subject_id = new.subject_id))
    then
        new.person_id = null;
    end if;
    return new;
end
$$;
create trigger sighting_leaves_person before update on sighting for each row
    when (old.person_id is not null and old.person_id = new.person_id
          and (new.embedding is null or new.subject_id is distinct from old.subject_id))
    execute function leave_person();

create function left_person() returns trigger language plpgsql as $$
begin
    delete from person_exemplar where sighting_id = old.sighting_id and person_id = old.person_id;
    perform refresh_persons(array[old.person_id]);
    return null;
end
$$;
create trigger sighting_left_person after update on sighting for each row
    when (old.person_id is not null and new.person_id is null) execute function left_person();

create function persons_of_deleted() returns trigger language plpgsql as $$
begin
    perform refresh_persons(array(select distinct person_id from gone where person_id is not null));
    return null;
end
$$;
create trigger sighting_deleted after delete on sighting referencing old table as gone
    for each statement execute function persons_of_deleted();
