-- Which score names somebody, whose names are wrong, and who is never told of. Read by every recognizer (recognize/rules/).

-- Thresholds at five levels. Owned by recognize/rules/.
create table threshold (
    level       text not null check (level in ('deployment', 'collection', 'watchlist', 'camera', 'subject')),
    key         text not null check (length(key) between 1 and 64),  -- 'default', a name, or the subject's id
    score       double precision check (score between -1 and 1),
    far         double precision check (far > 0 and far < 1),
    fpir        double precision check (fpir > 0 and fpir < 1),
    version     bigint not null default 1,      -- the API's ETag
    updated_by  text not null,
    updated_at  timestamptz not null default now(),
    primary key (level, key),
    check (num_nonnulls(score, far, fpir) = 1)
);

-- People who must be matched and then dropped. Owned by recognize/rules/.
create table opt_out (
    subject_id  uuid primary key references subject (subject_id) on delete cascade,
    reason      text not null default '',
    set_by      text not null,
    set_at      timestamptz not null default now()
);

-- Sightings that were taken back because they show somebody who has opted out: what still arrives of them is dropped too. Kept for
-- days only. Owned by sightings/.
create table dropped_sighting (
    sighting_id  uuid primary key,
    dropped_at   timestamptz not null default now()
);
create index dropped_sighting_age on dropped_sighting (dropped_at);

-- What people said of a name: that it is wrong, with the embedding that must not get it again, or right. Owned by sightings/.
create table feedback (
    feedback_id   uuid primary key default gen_random_uuid(),
    sighting_id   uuid not null,            -- no foreign key: the exemplar outlives its sighting
    subject_id    uuid not null references subject (subject_id) on delete cascade,
    verdict       text not null check (verdict in ('wrong_person', 'right_person')),
    reference_id  uuid,                     -- the reference that fired
    camera        text not null,
    collection    text not null,
    model         text not null,
    score         double precision,
    threshold     double precision,
    embedding     bytea,                    -- sealed; of a wrong person only
    renamed       boolean not null default false,   -- the sighting had this name, and lost it
    alerts        jsonb not null default '{}',  -- alerts that it rejected, with the states they had
    reason        text not null default '',
    actor         text not null,
    created_at    timestamptz not null default now(),
    check (verdict = 'right_person' or embedding is not null),
    unique (sighting_id, subject_id)
);
create index feedback_subject on feedback (subject_id);
create index feedback_time on feedback (created_at desc, feedback_id desc);

-- Watchlists whose own threshold the sighting's score does not reach: it raises no alert of theirs.
alter table sighting add column weak_for uuid[] not null default '{}';

-- Every recognizer, API process and standalone platform listens, and reads the rules again.
create function notify_rules() returns trigger language plpgsql as $$
begin
    perform pg_notify('rules', '');
    return null;
end
$$;
create trigger threshold_changed after insert or update or delete on threshold for each statement execute function notify_rules();
create trigger opt_out_changed after insert or update or delete on opt_out for each statement execute function notify_rules();
create trigger feedback_changed after insert or update or delete on feedback for each statement execute function notify_rules();
create trigger watchlist_changed after insert or update or delete on watchlist for each statement execute function notify_rules();
create trigger listed_changed after insert or update or delete on watchlist_subject for each statement execute function notify_rules();

-- A threshold goes with what it is of, and follows its name.
create function threshold_follows() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        delete from threshold where level = tg_argv[0]
            and key = case tg_argv[0] when 'subject' then to_jsonb(old) ->> 'subject_id' else to_jsonb(old) ->> 'name' end;
    else
        update threshold set key = to_jsonb(new) ->> 'name' where level = tg_argv[0] and key = to_jsonb(old) ->> 'name';
    end if;
    return null;
end
$$;
create trigger subject_threshold after delete on subject for each row execute function threshold_follows('subject');
create trigger collection_threshold after delete on collection for each row execute function threshold_follows('collection');
create trigger collection_threshold_name after update of name on collection for each row
    when (old.name <> new.name) execute function threshold_follows('collection');
create trigger watchlist_threshold after delete on watchlist for each row execute function threshold_follows('watchlist');
create trigger watchlist_threshold_name after update of name on watchlist for each row
    when (old.name <> new.name) execute function threshold_follows('watchlist');
create trigger camera_threshold after delete on camera for each row execute function threshold_follows('camera');
create trigger camera_threshold_name after update of name on camera for each row
    when (old.name <> new.name) execute function threshold_follows('camera');
