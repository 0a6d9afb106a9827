-- history
select 1;
