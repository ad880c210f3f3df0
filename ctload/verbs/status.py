"""What a verb gives back to the shell."""

OK = 0  # all went well
REFUSED = 1  # a source was refused, or a file of the store is not as it was written
FAILED = 2  # nothing could be done
INTERRUPTED = 130
