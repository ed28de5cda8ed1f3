-- Some of the rows of a range. The remainder may be negative, so it is made positive.
{range} AND pg_catalog.abs({hash} % {slices}) = {number}
