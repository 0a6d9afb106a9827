-- vault
select 1;
