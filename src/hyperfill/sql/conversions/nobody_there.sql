-- compress_chunk() ends with this lock, to empty the chunk, and where somebody reads it for long all that it compressed
-- is thrown away. So whether it can be had is tried before, and it is given back at once.
LOCK TABLE ONLY {chunk} IN ACCESS EXCLUSIVE MODE
