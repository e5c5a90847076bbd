"""Files of requests, one a line: their lines, what answers them, and a run that goes on after a kill."""
