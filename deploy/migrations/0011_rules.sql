-- rules
select 1;
