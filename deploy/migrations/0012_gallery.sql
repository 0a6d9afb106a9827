-- gallery
select 1;
