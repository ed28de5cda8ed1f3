-- As the COPY will lock it: nobody compresses the chunk with other settings meanwhile, or decompresses it.
LOCK TABLE ONLY {chunk} IN ROW EXCLUSIVE MODE
