"""The report of a sweep: every figure over the seeds of each setting, as a page, tables and pictures."""
