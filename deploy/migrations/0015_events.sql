-- events
select 1;
