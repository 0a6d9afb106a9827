-- jobs
select 1;
