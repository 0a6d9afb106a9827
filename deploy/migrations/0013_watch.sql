-- watch
select 1;
