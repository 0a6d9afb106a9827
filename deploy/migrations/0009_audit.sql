-- audit
select 1;
